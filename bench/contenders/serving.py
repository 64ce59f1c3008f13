"""Serving an aiohttp application as the service does, on a free port."""

import asyncio
import signal

from aiohttp import web


def serve(app: web.Application) -> None:
    """Until SIGTERM."""
    asyncio.run(_serve(app))


async def _serve(app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"Serving on http://127.0.0.1:{site.port}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()
