"""Follows the results of a poll and draws them in the terminal, through restarts of the service.

    POLLS_TOKEN=polls_… python examples/watch_results.py \
        'http://127.0.0.1:8080/rest/results?workspace=PLAT&content=PLAT-1&pollId=…'

It needs aiohttp, nothing else of this repository, and a token that may see the results. All that
makes it reliable is in ``follow``:

* The service says why it ends a stream. After ``restart`` there is another one soon: connect again
  when ``retry`` says, which is another time for each reader. Other reasons are final.
* A connection that breaks says nothing: connect again, each time a little later.
* ``Last-Event-ID`` tells the service what was seen last. What has changed meanwhile comes at once.
* The service sends a comment every 15 s. A connection that is silent for longer is dead.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from yarl import URL

SILENCE_SECONDS = 45.0
RETRY_SECONDS = 1.0
"""The first pause, until the service names one; the pauses double up to the longest."""
LONGEST_SECONDS = 5.0
RETRIED = frozenset({429, 502, 503, 504})
"""502 and 504 are what a proxy says while no service is behind it."""


class Refused(Exception):
    """The service will not show this, now or later; the text says why."""


class Ended(Exception):
    """The service has ended the stream for good; the text is its reason."""


async def follow(http: aiohttp.ClientSession, url: URL) -> AsyncIterator[Any]:
    """The results, now and whenever they change. Raises ``Refused`` and ``Ended``."""
    headers = {"Accept": "text/event-stream"}
    first = pause = RETRY_SECONDS
    while True:
        try:
            async with http.get(url, headers=headers) as answer:
                await _require_success(answer)
                async for event in _events(answer.content):
                    if "retry" in event:
                        first = int(event["retry"]) / 1000
                    pause = first
                    data = json.loads(event["data"])
                    if event["event"] == "results":
                        headers["Last-Event-ID"] = event["id"]
                        yield data
                    elif event["event"] == "end" and data["reason"] != "restart":
                        raise Ended(data["reason"])
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            print(f"No connection ({reason}); trying again.", file=sys.stderr)
        await asyncio.sleep(random.uniform(0.5, 1) * pause)
        pause = min(2 * pause, LONGEST_SECONDS)


async def _events(lines: aiohttp.StreamReader) -> AsyncIterator[dict[str, str]]:
    """The fields of each event; an event that was cut off is none."""
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and not name.startswith(":"):
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


async def _require_success(answer: aiohttp.ClientResponse) -> None:
    if answer.status in RETRIED:
        raise aiohttp.ClientConnectionError(f"status {answer.status}")
    if not answer.ok:
        text = await answer.text()
        if answer.content_type == "application/problem+json":
            text = json.loads(text)["detail"]
        raise Refused(f"{answer.status}: {text}")


def draw(title: str, options: dict[str, str], shown: Any) -> str:
    """Bars as wide as the terminal allows. Votes are null where only shares are shown."""
    results = shown["results"]
    columns = shutil.get_terminal_size().columns - 20
    width = min(40, columns // 2, max(map(len, options.values())))
    room = columns - width
    lines = [f"{title} ({'closed' if shown['closed'] else 'open'})"]
    for option_id, counted in results["options"].items():
        votes = "" if counted["votes"] is None else counted["votes"]
        share = counted["percentage"]
        label = options.get(option_id, option_id)
        if len(label) > width:
            label = label[: width - 1] + "…"
        lines.append(f"{label:{width}} {share:5.1f} % {votes:7} {'█' * round(room * share / 100)}")
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    return clear + "\n".join(lines)


async def run(url: URL, token: str) -> None:
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS),
    ) as http:
        async with http.get(
            url.with_name("polls").with_query({**url.query, "type": "polls"})
        ) as answer:
            await _require_success(answer)
            [poll] = await answer.json()
        options = {option["id"]: option["title"] for option in poll["options"]}
        async for shown in follow(http, url):
            print(draw(poll["title"], options, shown), flush=True)


def main() -> int:
    """0: the poll was deleted. 1: the results may not be seen. 2: misused. 130: interrupted."""
    parser = argparse.ArgumentParser(description="Draws the results of a poll as they change.")
    parser.add_argument("url", type=URL, help="of results, on /rest only: http://…/rest/results?…")
    options = parser.parse_args()
    if not options.url.path.endswith("/rest/results"):
        parser.error("the URL must be one of /rest/results: it knows no sessions of courses")
    if "pollId" not in options.url.query:
        parser.error("the URL must name one poll: &pollId=…")
    token = os.environ.get("POLLS_TOKEN")
    if not token:
        parser.error("POLLS_TOKEN must hold a token with the action read")
    try:
        asyncio.run(run(options.url, token))
    except Ended as reason:
        print(f"The results are not shown any more: {reason}.", file=sys.stderr)
        return 0 if str(reason) == "deleted" else 1
    except (Refused, aiohttp.ClientConnectionError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
