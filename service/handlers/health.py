"""What an orchestrator and a monitor ask; none of it needs a token."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from service import keys, responses
from storage.errors import Unavailable


async def healthz(_: web.Request) -> web.Response:
    """Whether the process answers.

    It asks nothing else: a database that is away would have every replica killed.
    """
    return responses.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether requests should be sent here: the database takes writes, and no stop has begun."""
    if request.app[keys.DRAINING].is_set():
        raise Unavailable("The service is stopping.")
    await request.app[keys.STORE].check_writes()
    return responses.json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.Response:
    """The text format of Prometheus, up to this request."""
    request.app[keys.REQUEST_LOG].flush()
    return web.Response(
        body=request.app[keys.METRICS].render(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    )
