"""Opens what the application lives on, and closes it again."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from service import keys
from storage.store import open_store


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    watch = app.get(keys.SESSION_WATCH)
    async with open_store(app[keys.SETTINGS].location, watch=watch) as store:
        app[keys.STORE] = store
        sweeper = asyncio.create_task(store.purges.run())
        yield
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await store.ballots.drain()
    app[keys.REQUEST_LOG].flush()
    app[keys.METRICS].share()
