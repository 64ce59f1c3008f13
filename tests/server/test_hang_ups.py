"""Callers who hang up, seen from the service as it listens."""

import asyncio
import io
import json
from collections.abc import Callable

from aiohttp import web
from structlog.testing import capture_logs

from service.app import create_app
from service.server.runner import Runner
from service.settings import Settings
from service.telemetry.log import RequestLog
from tests.conftest import ADMIN

BEGINNING = (
    "POST /rest?type=polls&workspace=PLAT&content=PLAT-254604 HTTP/1.1\r\n"
    f"Host: polls\r\nAuthorization: Bearer {ADMIN}\r\n"
    'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"title":'
)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_a_client_that_hangs_up_within_a_body_is_499_in_the_request_log_and_no_error(
    settings: Settings,
) -> None:
    lines = io.BytesIO()
    runner = Runner(create_app(settings, request_log=RequestLog(lines)))
    await runner.setup()
    try:
        server = runner.server
        assert server is not None
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        with capture_logs() as events:
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(BEGINNING.encode())
            await until(lambda: server.requests_count == 1)
            writer.transport.abort()
            await until(lambda: bool(lines.getvalue()))
    finally:
        await runner.cleanup()

    assert [json.loads(line)["status"] for line in lines.getvalue().splitlines()] == [499]
    assert events == []
