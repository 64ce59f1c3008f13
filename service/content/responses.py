"""The answer that is one poll (docs/api.md, section 3)."""

from aiohttp import web

from service.rules import views
from service.web.responses import json_response
from storage.documents import PollDocument, revision


def poll_response(poll: PollDocument) -> web.Response:
    """The poll, with its version for ``If-Match``."""
    headers = {"ETag": f'"{revision(poll)}"'}
    return json_response(views.content_poll(poll), headers=headers)
