"""The whole assembly: the application, and what it opens and closes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import cache, lru_cache, partial

import orjson
from aiohttp import web

from service.live.hub import HUB, Hub
from service.openapi.document import SERVER, build
from service.openapi.explorer import DOCUMENT
from service.routes import CASTS, ROUTES, add_routes
from service.settings import SETTINGS, Settings
from service.telemetry.log import REQUEST_LOG, RequestLog, open_request_log
from service.telemetry.metrics import METRICS, Metrics
from service.telemetry.tracing import add_tracing
from service.web.authentication import identify
from service.web.call import CALL, CLOCK, DRAINING
from service.web.concurrency import EXPORT_LIMIT, ConcurrencyLimit
from service.web.cors import add_cors
from service.web.proxies import client_scheme
from service.web.rate_limits import add_limits
from service.web.scope import request_scope
from service.web.store_key import IMPORTS, STORE
from service.web.tokens import ADMIN_TOKEN_ID
from storage.client import SessionWatch
from storage.documents import utc_now
from storage.imports import Imports
from storage.startup import open_store
from storage.tokens import token_id

built: Callable[[], bytes] = cache(lambda: orjson.dumps(build(ROUTES)))


def _document(server: str) -> bytes:
    return built().replace(orjson.dumps(SERVER), orjson.dumps(server), 1)


document: Callable[[str], bytes] = lru_cache(maxsize=16)(_document)
"""The OpenAPI document as JSON, of a service at this URL.

The same bytes for all callers: each that does not read them would hold a copy.
"""


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
    request_log: RequestLog | None = None,
    watch: SessionWatch | None = None,
) -> web.Application:
    """The application for ``settings``; it opens its store when it is started.

    ``watch`` is told of each session of the database's driver before it is used.
    """
    metrics = Metrics(settings.metrics_dir)
    log = request_log or open_request_log(settings.log_level)
    log.tell(metrics.count)
    app = web.Application(middlewares=[request_scope(identify, metrics, log, CASTS)])
    app[SETTINGS] = settings
    app[CLOCK] = clock
    app[ADMIN_TOKEN_ID] = token_id(settings.admin_token) if settings.admin_token else None
    app[METRICS] = metrics
    app[REQUEST_LOG] = log
    app[DOCUMENT] = document
    app[DRAINING] = asyncio.Event()
    app[EXPORT_LIMIT] = ConcurrencyLimit(settings.max_exports, "exports")
    app.cleanup_ctx.append(partial(_lifespan, watch))
    add_routes(app.router)
    add_limits(app, monotonic)
    add_cors(app)
    if settings.traces:
        scheme_of = partial(client_scheme, trusted=settings.trusted_proxies)
        add_tracing(app, scheme_of, _identity_of)
    return app


def _identity_of(request: web.Request) -> tuple[str, bool]:
    return request[CALL].logged_id, request[CALL].is_anonymous


async def _lifespan(watch: SessionWatch | None, app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    async with open_store(
        settings.location, watch=watch, clock=app[CLOCK], shared=settings.metrics_dir
    ) as store:
        app[STORE] = store
        app[IMPORTS] = Imports(
            store.database, store.ballots.id_of, store.key_for("voters"), app[CLOCK]
        )
        app[HUB] = Hub(
            store,
            app[METRICS],
            ConcurrencyLimit(settings.stream_limit, "event streams"),
            app[DRAINING],
            clock=app[CLOCK],
            admin_token_id=app[ADMIN_TOKEN_ID],
        )
        work = (
            *(store.purges.run(), store.deleted_polls.run(), store.erasures.run()),
            *(store.keys.run(), store.listings.fill()),
            store.retention.run(settings.retention_days),
        )
        tasks = [asyncio.create_task(one) for one in work]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.ballots.drain()
    app[REQUEST_LOG].flush()
    app[METRICS].share()
