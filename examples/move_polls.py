r"""Moves polls here from another system: all that are in a file, in one call.

    POLLS_TOKEN=polls_… python examples/move_polls.py http://127.0.0.1:8080 polls.ndjson

Each line of the file is a poll with its id, times and votes, as docs/moving.md describes. The lines
are sent while the answers come, so the file may be of any size; up to 10,000 lines go in one call.
It needs nothing but Python, and an admin token. What was moved already is left unchanged: if the
call is cut off, run it again.
"""

import argparse
import contextlib
import http.client
import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

NDJSON = "application/x-ndjson"
CHUNK_BYTES = 64 * 1024


def send_lines(connection: http.client.HTTPConnection, file: BinaryIO) -> None:
    """Sends the file as the chunked body of a request that was begun."""
    # The service may end the import, and the answer says why.
    with contextlib.suppress(OSError):
        while piece := file.read(CHUNK_BYTES):
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")


def move(url: str, token: str, file: BinaryIO) -> list[dict[str, Any]]:
    """The answer to each line."""
    address = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    connection = kinds[address.scheme](address.netloc, timeout=60)
    connection.putrequest("POST", f"{address.path.rstrip('/')}/rest/import")
    for name, value in (
        ("Authorization", f"Bearer {token}"),
        ("Content-Type", NDJSON),
        ("Transfer-Encoding", "chunked"),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    # A daemon: if the service ends the import, nothing waits for the rest of the file.
    sending = threading.Thread(target=send_lines, args=(connection, file), daemon=True)
    sending.start()
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        # application/problem+json, with the reason in "detail".
        raise SystemExit(json.load(answer)["detail"])
    return [json.loads(line) for line in answer]


def main() -> int:
    """0: all lines are there. 1: some are not; it says which, and why."""
    parser = argparse.ArgumentParser(description="Imports polls with ids, times and votes.")
    parser.add_argument("url", help="of the service, as http://127.0.0.1:8080")
    parser.add_argument("file", type=Path, help="the lines, as docs/moving.md describes them")
    options = parser.parse_args()
    token = os.environ.get("POLLS_TOKEN")
    if not token:
        parser.error("POLLS_TOKEN must hold the token of an admin")
    try:
        # Before it connects: a file that is not there must not begin an import.
        with options.file.open("rb") as file:
            answers = move(options.url, token, file)
    except (OSError, http.client.HTTPException) as error:
        print(error, file=sys.stderr)
        return 1
    refused = [one for one in answers if one["status"] != http.client.OK]
    for one in refused:
        print(f"line {one['line']}: {one['detail']}", file=sys.stderr)
    results = Counter(one["result"] for one in answers if one not in refused)
    told = f"{results['created']} created, {results['unchanged']} there already"
    print(f"{told}, {len(refused)} refused." if refused else f"{told}.")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
