"""Readers of event streams, and what a ``GET`` says at the same moment."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import ClientResponse

from tests.conftest import Client
from tests.support.casting import Headers, Run
from tests.support.seeds import Json

EVENTS = {"Accept": "text/event-stream"}
SOON = 10.0
"""Within this something arrives even on a busy machine."""


async def comes_true(condition: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Event:
    name: str
    data: Any
    id: str | None = None
    retry: int | None = None


class Stream:
    """One open stream, read event by event as the HTML Standard says; comments are skipped."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.comments = 0

    async def next(self, within: float = SOON) -> Event | None:
        """The next event; None where the stream has ended."""
        async with asyncio.timeout(within):
            return await self._read()

    async def results(self, within: float = SOON) -> Json:
        """The data of the next event, which must be one of results; pings come at any time."""
        while (event := await self.next(within)) is not None and event.name == "ping":
            pass
        assert event is not None, "the stream has ended"
        assert event.name == "results", event
        assert event.id == event.data["revision"]
        return dict(event.data)

    async def until(self, revision: str, within: float = SOON) -> Json:
        """The data of the event with this revision; all before it are skipped."""
        async with asyncio.timeout(within):
            while (data := await self.results())["revision"] != revision:
                pass
        return data

    async def end(self, within: float = SOON) -> Event:
        """The event ``end``, behind which there is nothing; events of results are skipped."""
        async with asyncio.timeout(within):
            while (event := await self._read()) is not None and event.name != "end":
                pass
            assert event is not None, "the stream ended without saying why"
            assert await self._read() is None
        return event

    async def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        try:
            await self.next(seconds)
        except TimeoutError:
            return True
        return False

    async def _read(self) -> Event | None:
        fields: dict[str, str] = {}
        while line := (await self.response.content.readuntil(b"\n")).decode():
            assert line.endswith("\n"), "the stream was cut"
            name, _, value = line.rstrip("\n").partition(": ")
            if name.startswith(":"):
                self.comments += 1
            elif name:
                fields[name] = value
            elif fields:
                retry = int(fields["retry"]) if "retry" in fields else None
                data = json.loads(fields["data"])
                return Event(fields["event"], data, fields.get("id"), retry)
        return None


@dataclass(frozen=True)
class Target:
    """Path and query of results."""

    path: str
    query: dict[str, str]

    def acting(self, user_id: int) -> "Target":
        return Target(self.path, {**self.query, "as_user_id": str(user_id)})


def of_content(run: Run) -> Target:
    """The results of a content poll."""
    return Target("/rest/results", {**run.query, "type": "results"})


def of_session(run: Run) -> Target:
    """The same, or those of a session of a course, under ``/api/v1``."""
    return Target(f"{run.url}/results", {})


async def got(api: Client, target: Target, who: Headers | None = None) -> ClientResponse:
    """What a ``GET`` answers at this moment."""
    return await api.get(target.path, params=target.query, headers=who)


@asynccontextmanager
async def watching(
    api: Client, target: Target, who: Headers | None = None
) -> AsyncIterator[Stream]:
    headers = {**EVENTS, **(who or {})}
    async with api.get(target.path, params=target.query, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Stream(response)


REASONS = {404: "deleted", 403: "forbidden"}


class Audience:
    """Callers that watch the same results, each by a stream of its own.

    After each action ``agree`` compares what their streams tell with what a ``GET`` answers.
    """

    def __init__(self, api: Client, callers: Mapping[str, tuple[Target, Headers | None]]) -> None:
        self._api = api
        self._callers = callers
        self.streams: dict[str, Stream] = {}
        self._newest: dict[str, Json] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.agree()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def agree(self) -> set[str]:
        """Returns the callers that see results now."""
        sees = {name for name in self._callers if await self._agrees(name)}
        assert sees == self.streams.keys()
        return sees

    async def _agrees(self, name: str) -> bool:
        target, who = self._callers[name]
        answer = await got(self._api, target, who)
        if answer.status == 200:
            await self._shows(name, await answer.json())
            return True
        if (stream := self.streams.pop(name, None)) is not None:
            assert (await stream.end()).data == {"reason": REASONS[answer.status]}, name
        watched = await self._api.get(
            target.path, params=target.query, headers={**EVENTS, **(who or {})}
        )
        assert (watched.status, (await watched.json())["code"]) == (
            answer.status,
            (await answer.json())["code"],
        )
        return False

    async def _shows(self, name: str, shown: Json) -> None:
        if name not in self.streams:
            watched = watching(self._api, *self._callers[name])
            self.streams[name] = await self._open.enter_async_context(watched)
            self._newest[name] = await self.streams[name].results()
        while self._newest[name]["revision"] != shown["revision"]:
            self._newest[name] = await self.streams[name].results()
        assert self._newest[name] == shown
