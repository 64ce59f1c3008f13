"""The application key of the store, whose package does not know aiohttp."""

from aiohttp import web

from storage.store import Store

STORE = web.AppKey("store", Store)
