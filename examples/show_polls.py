"""Shows the polls of many issues to one user: results, the user's votes, and what can be done now.

One call for up to 200 issues. Beside a service:

    POLLS_TOKEN=… python examples/show_polls.py http://127.0.0.1:8080 PLAT 7 PLAT-1 PLAT-2
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp

AT_ONCE = 200
"""References that the service takes in one call."""
SECONDS = 15

Poll = dict[str, Any]


class Refused(Exception):
    """The service refused the call as a whole."""


async def find(
    http: aiohttp.ClientSession, workspace: str, user_id: str, issues: Sequence[str]
) -> list[list[Poll] | str]:
    """For each issue its polls as the user may see them, or why they cannot be shown."""
    found: list[list[Poll] | str] = []
    for first in range(0, len(issues), AT_ONCE):
        wanted = issues[first : first + AT_ONCE]
        query = {
            "polls": [{"workspace": workspace, "content": issue} for issue in wanted],
            "expand": ["results", "vote"],
        }
        async with http.post("/rest/query", params={"as_user_id": user_id}, json=query) as answer:
            if not answer.ok:
                # application/problem+json, with the reason in "detail".
                raise Refused(f"{answer.status} {await answer.text()}")
            # One entry for each reference: a list of polls, or a problem of its own.
            answered = await answer.json()
            found += [one if isinstance(one, list) else one["detail"] for one in answered]
    return found


def described(poll: Poll) -> Iterator[str]:
    yield f"  {poll['title']} ({action_of(poll)})"
    # Absent where the user may not see them, or not yet.
    results = poll.get("results", {"options": {}})["options"]
    vote = poll["vote"]
    # Null where only the user may know what the vote was.
    chosen = (vote["optionIds"] or []) if vote is not None else []
    for option in poll["options"]:
        shown = results.get(option["id"])
        share = f"{shown['percentage']:5.1f} %" if shown is not None else " " * 7
        mark = "*" if option["id"] in chosen else " "
        yield f"  {mark} {share} {option['title']}"


def action_of(poll: Poll) -> str:
    if poll["canVote"]:
        return "vote"
    if poll["canChange"]:
        return "change your vote"
    if poll["hasVoted"]:
        return "you have voted"
    # It may be closed, or not be this user's to vote in: only the results tell, if they are shown.
    is_closed = "results" in poll and poll["results"]["closed"]
    return "closed" if is_closed else "you may not vote"


async def run(url: str, token: str, options: argparse.Namespace) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as http:
        found = await find(http, options.workspace, options.user, options.issues)
    for issue, polls in zip(options.issues, found, strict=True):
        print(issue)
        if isinstance(polls, str):
            print(f"  {polls}")
        elif not polls:
            print("  no polls")
        else:
            print(*(line for poll in polls for line in described(poll)), sep="\n")


def main() -> int:
    """0: all were shown. 1: the service refused. 2: misused."""
    parser = argparse.ArgumentParser(description="Shows the polls of many issues to one user.")
    parser.add_argument("url", help="of the service, as http://127.0.0.1:8080")
    parser.add_argument("workspace")
    parser.add_argument("user", help="whom the polls are shown to: the id, as your system has it")
    parser.add_argument("issues", nargs="+")
    options = parser.parse_args()
    token = os.environ.get("POLLS_TOKEN")
    if not token:
        parser.error("POLLS_TOKEN must hold a token that may act for the user")
    try:
        asyncio.run(run(options.url, token, options))
    except (Refused, aiohttp.ClientError, TimeoutError) as error:
        print(str(error) or "The service did not answer in time.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
