"""Answers as event streams: results of a session, as they change (docs/api.md, section 7)."""

import asyncio
import random
from datetime import datetime

from aiohttp import HttpVersion11, hdrs, web

from service.live.frames import HEARTBEAT, Frame
from service.live.hub import HUB
from service.live.watcher import HEARTBEAT_SECONDS, Shown, Watcher
from service.web.accept import EVENT_STREAM
from service.web.call import CALL
from service.web.responses import add_common_headers

__all__ = ["Shown", "respond_events"]

HEADERS = {"Content-Type": f"{EVENT_STREAM}; charset=utf-8", "X-Accel-Buffering": "no"}


async def respond_events(
    request: web.Request,
    session_id: int,
    shown: Shown,
    *,
    until: datetime | None = None,
    heartbeat: Frame = HEARTBEAT,
) -> web.StreamResponse:
    """Follows a session as ``request[CALL].principal``, which may see it now.

    Ends when the caller has gone or may not see it any more (``may_read`` is false or ``shown``
    gives None), the session is deleted, the token ends, ``until`` has passed, or the service stops.
    Raises ``Unavailable`` where there are too many streams, or changes cannot be followed.
    """
    call = request[CALL]
    response = web.StreamResponse(headers=HEADERS)
    # The scope of the request comes too late: these headers leave before the handler returns.
    add_common_headers(response, call.id)
    response.force_close()
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    hub = request.app[HUB]
    with hub.admit():
        await hub.open()
        call.is_stream = True
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("The client has closed the connection.")
        # All that is given to it at once is on its way, or the reader is slow.
        transport.set_write_buffer_limits(high=0)
        now = asyncio.get_running_loop().time()
        await hub.follow(
            Watcher(
                transport,
                call.principal,
                session_id,
                shown,
                is_chunked=request.version == HttpVersion11,
                revision=request.headers.get("Last-Event-ID", ""),
                until=until,
                beat_at=now + HEARTBEAT_SECONDS * random.random(),  # noqa: S311 - no secret
                heartbeat=heartbeat,
            )
        )
    return response
