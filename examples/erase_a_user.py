r"""Erases a user, as privacy law asks: one call, and then the wait until it is done.

    POLLS_TOKEN=polls_… python examples/erase_a_user.py http://127.0.0.1:8080 42 --votes anonymize

It needs nothing but Python, and an admin token. ``--data FILE`` keeps what was held of the user
first, one JSON object a line: for the user, who may ask for it.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

ASK_SECONDS = 0.5


def call(method: str, url: str, token: str) -> Any:
    """The answer, to be read and closed; raises ``HTTPError``."""
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - own service
    return urllib.request.urlopen(request, timeout=60)  # noqa: S310 - see above


def keep(url: str, token: str, file: Path) -> None:
    with call("GET", url, token) as answer, file.open("wb") as kept:
        while some := answer.read(65536):
            kept.write(some)


def erase(url: str, token: str, votes: str) -> dict[str, Any]:
    """The erasure once it is done."""
    with call("DELETE", f"{url}?votes={votes}", token) as answer:
        place = urljoin(url, answer.headers["Location"])
        erasure: dict[str, Any] = json.load(answer)
    while erasure["state"] != "done":
        time.sleep(ASK_SECONDS)
        with call("GET", place, token) as answer:
            erasure = json.load(answer)
    return erasure


def counted(number: int, kind: str) -> str:
    return f"{number} {kind}" if number == 1 else f"{number} {kind}s"


def main() -> int:
    """0: nothing is left of the user. 1: something may be; it says why."""
    parser = argparse.ArgumentParser(description="Erases a user.")
    parser.add_argument("url", help="of the service, as http://127.0.0.1:8080")
    parser.add_argument("user", help="the id, as your system has it")
    parser.add_argument(
        "--votes",
        choices=("anonymize", "withdraw"),
        default="anonymize",
        help="anonymize: they count as before, without a name, and the user cannot vote again; "
        "withdraw: they are removed, and their counts with them (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="the file for what was held of the user; what votes without a name are for is only "
        "in the answer to a token of the user's own",
    )
    options = parser.parse_args()
    token = os.environ.get("POLLS_TOKEN")
    if not token:
        parser.error("POLLS_TOKEN must hold an admin token")
    url = f"{options.url.rstrip('/')}/users/{quote(options.user, safe='')}/data"
    try:
        if options.data is not None:
            keep(url, token, options.data)
        counts = erase(url, token, options.votes)["counts"]
    except urllib.error.HTTPError as error:
        # application/problem+json, with the reason in "detail".
        print(json.load(error)["detail"], file=sys.stderr)
        return 1
    except OSError as error:
        print(f"No answer from {options.url}: {error}", file=sys.stderr)
        return 1
    told = (counted(counts[f"{kind}s"], kind) for kind in ("enrollment", "token", "poll", "vote"))
    print(f"Erased: {', '.join(told)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
