"""Endpoints for orchestrators and monitoring; none needs a token."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from service.telemetry.log import REQUEST_LOG
from service.telemetry.metrics import METRICS
from service.web import responses
from service.web.call import DRAINING
from service.web.store_key import STORE
from storage.errors import Unavailable


async def healthz(_: web.Request) -> web.Response:
    """Check that the process answers.

    For everybody. Does not check the database, whose outage would then restart every replica.
    """
    return responses.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Check that requests should be sent here.

    For everybody: the database accepts writes, and the service is not stopping. Does not say why
    not; the log does.
    """
    if request.app[DRAINING].is_set():
        raise Unavailable("The service is shutting down.")
    await request.app[STORE].check_writes()
    return responses.json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.Response:
    """Get the metrics, in the text format of Prometheus.

    For everybody who reaches it, so keep it on an internal network. Does not name users, polls or
    tokens.
    """
    request.app[REQUEST_LOG].flush()
    return web.Response(
        body=request.app[METRICS].render(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    )
