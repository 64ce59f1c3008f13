"""Conditional requests (RFC 9110, section 13)."""

import hashlib
import re
from importlib.metadata import version
from typing import Any

import orjson
from aiohttp import hdrs, web

from service.web.responses import json_response

ENTITY_TAG = re.compile(r'"([^"]*?)(?:--?(?:gzip|br|deflate|zstd))?"')
"""A tag, without what compressing proxies make of it: ``W/"1-1"``, ``"1-1-gzip"``."""
REVALIDATED = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
VERSION = version("polls-service")
"""Part of every tag: another version may show the same document in another way."""


class NotModified(Exception):
    """The client has this answer already; ``headers`` are those of the 304."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.headers = headers


def read_if_match(request: web.Request) -> frozenset[str] | None:
    """The revisions that ``If-Match`` names; None if the header is absent or ``*``.

    Malformed tags never match. Weak tags do: a tag names a revision here, not bytes.
    """
    if hdrs.IF_MATCH not in request.headers:
        return None
    tags = _read_tags(request, hdrs.IF_MATCH)
    return None if tags is None else frozenset(tag.partition(".")[0] for tag in tags)


def tag_of(*parts: Any, revision: str | None = None) -> str:
    """A tag that is another one wherever ``parts``, of JSON's types, are others.

    ``read_if_match`` reads the ``revision`` from it, if it has one.
    """
    encoded = orjson.dumps((VERSION, parts))
    tag = hashlib.blake2b(encoded, digest_size=10).hexdigest()
    return tag if revision is None else f"{revision}.{tag}"


def revalidate(request: web.Request, tag: str) -> dict[str, str]:
    """The headers of the answer to a GET; raises ``NotModified`` if the client names its tag.

    To be called after all checks of rights, and before anything is rendered.
    """
    headers = {**REVALIDATED, "ETag": f'"{tag}"'}
    if hdrs.IF_NONE_MATCH in request.headers:
        tags = _read_tags(request, hdrs.IF_NONE_MATCH)
        if tags is None or tag in tags:
            raise NotModified(headers)
    return headers


def revised_response(request: web.Request, data: dict[str, Any]) -> web.Response:
    """``data`` with its tag as ``revision``; raises ``NotModified`` if the client names that."""
    revision = tag_of(data)
    headers = revalidate(request, revision)
    return json_response({**data, "revision": revision}, headers=headers)


def _read_tags(request: web.Request, name: str) -> list[str] | None:
    """The tags of a header that is there; None for ``*``."""
    values = request.headers.getall(name)
    return None if values == ["*"] else ENTITY_TAG.findall(",".join(values))
