"""What an orchestrator asks; neither needs a token."""

from aiohttp import web

from service import keys, responses
from storage.errors import Unavailable


async def healthz(_: web.Request) -> web.Response:
    """Whether the process answers.

    It asks nothing else: a database that is away would have every replica killed.
    """
    return responses.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether requests should be sent here: the database answers, and no stop has begun."""
    if request.app[keys.DRAINING].is_set():
        raise Unavailable("The service is stopping.")
    await request.app[keys.STORE].ping()
    return responses.json_response({"status": "ready"})
