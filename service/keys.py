"""Every key of the application and of a request, typed."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from service.logs import RequestLog
from service.metrics import Metrics
from service.principal import Principal
from service.quotas import Quota
from service.settings import Settings
from storage.store import SessionWatch, Store

SETTINGS = web.AppKey("settings", Settings)
STORE = web.AppKey("store", Store)
CLOCK: web.AppKey[Callable[[], datetime]] = web.AppKey("clock")
ADMIN_TOKEN_ID: web.AppKey[str | None] = web.AppKey("admin_token_id")
METRICS = web.AppKey("metrics", Metrics)
REQUEST_LOG = web.AppKey("request_log", RequestLog)
SESSION_WATCH: web.AppKey[SessionWatch] = web.AppKey("session_watch")
DOCUMENT: web.AppKey[Callable[[], bytes]] = web.AppKey("document")
TOKEN_USES: web.AppKey[Quota | None] = web.AppKey("token_uses")
BAD_TOKENS: web.AppKey[Quota | None] = web.AppKey("bad_tokens")
DRAINING = web.AppKey("draining", asyncio.Event)

REQUEST_ID = web.RequestKey("request_id", str)
QUERY: web.RequestKey[list[tuple[str, str]]] = web.RequestKey("query")
IS_ANONYMOUS = web.RequestKey("is_anonymous", bool)
QUOTA_HEADERS: web.RequestKey[dict[str, str]] = web.RequestKey("quota_headers")
PRINCIPAL = web.RequestKey("principal", Principal)
