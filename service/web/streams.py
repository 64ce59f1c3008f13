"""Answers that are sent while they are still being made."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import structlog
from aiohttp import web

from service.web.call import CALL
from service.web.responses import add_common_headers

STREAM_SECONDS = 50.0
"""The longest that a stream of one moment may take: MongoDB keeps that for a minute."""
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
END_AT_CLOSE = struct.pack("ii", 0, 0)

log = structlog.get_logger(__name__)


async def respond(
    request: web.Request,
    headers: Mapping[str, str],
    chunks: AsyncGenerator[bytes, None],
    *,
    seconds: float | None,
) -> web.StreamResponse:
    """Sends the chunks as they come, no faster than the caller takes them, within ``seconds``.

    What is raised before the first chunk is there is raised here, and answered like any error.
    After it the answer has begun: the connection is cut, so that nobody takes a part for the whole,
    and ``ConnectionError`` is raised, which says that there is nobody left to answer.
    """
    response = web.StreamResponse(headers=headers)
    # The scope of the request comes too late: these headers leave before the handler returns.
    add_common_headers(response, request[CALL].id)
    until = None if seconds is None else asyncio.get_running_loop().time() + seconds
    async with aclosing(chunks):
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        first = await anext(chunks)
        _set_close(request, RESET_AT_CLOSE)
        try:
            async with asyncio.timeout_at(until):
                await response.prepare(request)
                await response.write(first)
                async for chunk in chunks:
                    await response.write(chunk)
                await response.write_eof()
        except ConnectionError:
            raise
        except Exception as error:
            request_id = request[CALL].id
            if isinstance(error, TimeoutError):
                log.warning("answer cut off", reason="too slow", request_id=request_id)
            else:
                log.exception("answer cut off", request_id=request_id)
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionAbortedError("The answer was cut off.") from error
        _set_close(request, END_AT_CLOSE)
    return response


def _set_close(request: web.Request, how: bytes) -> None:
    """What the caller sees of a connection that is closed, by whomever.

    In HTTP/1.0 the end of a connection is the end of the answer, so until that is whole the
    connection must not end but break.
    """
    transport = request.transport
    if transport is not None and not transport.is_closing():
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
