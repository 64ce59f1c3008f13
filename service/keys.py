"""Every key of the application and of a request, typed."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from service.call import Call
from service.logs import RequestLog
from service.metrics import Metrics
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

CALL = web.RequestKey("call", Call)
