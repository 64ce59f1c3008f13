"""The whole assembly."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web

from service import keys
from service.cors import add_cors
from service.docs.document import document
from service.lifespan import lifespan
from service.logs import RequestLog, open_request_log
from service.metrics import Metrics
from service.middleware.limits import add_limits, within_token_rate
from service.middleware.scope import request_scope
from service.middleware.tokens import identify
from service.routes import add_routes
from service.settings import Settings
from service.tracing import add_tracing
from storage.tokens import token_id


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
    request_log: RequestLog | None = None,
) -> web.Application:
    """The application for ``settings``; it opens its store when it is started."""
    known = identify if settings.token_rate is None else within_token_rate(identify)
    metrics = Metrics(settings.metrics_dir)
    log = request_log or open_request_log(settings.log_level)
    log.tell(metrics.count)
    app = web.Application(
        middlewares=[request_scope(known, metrics, log)],
        client_max_size=settings.max_body_bytes,
    )
    app[keys.SETTINGS] = settings
    app[keys.CLOCK] = clock
    app[keys.ADMIN_TOKEN_ID] = token_id(settings.admin_token) if settings.admin_token else None
    app[keys.METRICS] = metrics
    app[keys.REQUEST_LOG] = log
    app[keys.DOCUMENT] = document
    app[keys.DRAINING] = asyncio.Event()
    app.cleanup_ctx.append(lifespan)
    add_routes(app.router)
    add_limits(app, monotonic)
    add_cors(app)
    add_tracing(app)
    return app
