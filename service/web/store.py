"""The key of the application's store, whose own package knows no web."""

from aiohttp import web

from storage.store import Store

STORE = web.AppKey("store", Store)
