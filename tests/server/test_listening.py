"""Accepting: a crowd that comes at once is let in at once, and shared out between workers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from service.server.listening import Listener, open_sockets
from tests.support.desk import turns

CROWD = 100


class Guest(asyncio.Protocol):
    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


class Guests(list[Guest]):
    """Those that one worker has accepted."""

    def admit(self) -> Guest:
        self.append(Guest())
        return self[-1]


Listen = Callable[[bool], Guests]


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    sockets = open_sockets("127.0.0.1", 0)
    yield sockets
    for one in sockets:
        one.close()


@pytest.fixture
def crowd(sockets: list[socket.socket]) -> Iterator[None]:
    """Connections that wait in the queue of the kernel."""
    with contextlib.ExitStack() as ends:
        for _ in range(CROWD):
            ends.enter_context(socket.create_connection(sockets[0].getsockname()))
        yield


@pytest.fixture
async def listen(sockets: list[socket.socket]) -> AsyncIterator[Listen]:
    opened: list[tuple[Listener, Guests]] = []

    def listen(is_shared: bool) -> Guests:
        guests = Guests()
        # A descriptor of its own for the same queue, as other processes have.
        own = [one.dup() for one in sockets]
        opened.append((Listener(own, guests.admit, limit=1000, is_shared=is_shared), guests))
        return guests

    yield listen
    for listener, guests in opened:
        await listener.close()
        for guest in guests:
            if guest.transport is not None:
                guest.transport.close()
    await turns()


@pytest.mark.usefixtures("crowd")
async def test_a_crowd_is_let_in_within_a_few_turns_of_a_busy_loop(listen: Listen) -> None:
    guests = listen(False)
    await turns()
    assert len(guests) == CROWD


@pytest.mark.usefixtures("crowd")
async def test_two_workers_share_a_crowd_and_the_more_they_have_the_faster(
    listen: Listen,
) -> None:
    shares = [listen(True), listen(True)]
    for _ in range(4):
        await turns()  # ten each time: one in each would be 80
    assert sum(map(len, shares)) == CROWD
    assert min(map(len, shares)) > CROWD / 3
