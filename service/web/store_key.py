"""The application keys of the store, whose package does not know aiohttp."""

from aiohttp import web

from storage.imports import Imports
from storage.store import Store

STORE = web.AppKey("store", Store)
IMPORTS = web.AppKey("imports", Imports)
