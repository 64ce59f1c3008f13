"""Every key of the application and of a request, typed."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from service.logs import RequestLog
from service.principal import Principal
from service.settings import Settings
from storage.store import Store

SETTINGS = web.AppKey("settings", Settings)
STORE = web.AppKey("store", Store)
CLOCK: web.AppKey[Callable[[], datetime]] = web.AppKey("clock")
REQUEST_LOG = web.AppKey("request_log", RequestLog)
DOCUMENT: web.AppKey[Callable[[], bytes]] = web.AppKey("document")
DRAINING = web.AppKey("draining", asyncio.Event)

REQUEST_ID = web.RequestKey("request_id", str)
QUERY: web.RequestKey[list[tuple[str, str]]] = web.RequestKey("query")
IS_ANONYMOUS = web.RequestKey("is_anonymous", bool)
PRINCIPAL = web.RequestKey("principal", Principal)
