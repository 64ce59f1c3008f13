r"""A backend that votes for its users: the poll of an issue, and the vote of user 42 in it.

    POLLS_TOKEN=polls_… python examples/vote_for_a_user.py http://127.0.0.1:8080

Two calls: one makes the poll, one casts the vote. It needs nothing but Python, and a token that may
act for users in the workspace, no admin token:

    python -m service token create --name backend-votes --user 2 --workspace PLAT \
      --action act --action read --action write --action vote

``examples/cast_votes.py`` shows how to repeat what was not answered.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from typing import Any
from urllib.parse import urlencode

POLL = {
    "title": "Ship it?",
    "options": [{"id": "yes", "title": "Yes"}, {"id": "no", "title": "Not yet"}],
}


def post(url: str, token: str, body: Any, **query: str) -> Any:
    """The answer to a POST; raises ``HTTPError``."""
    request = urllib.request.Request(  # noqa: S310 - the operator's own service
        f"{url}?{urlencode(query)}",
        method="POST",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid.uuid4()),
        },
    )
    with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310 - see above
        return json.load(answer)


def main() -> int:
    """0: the vote is counted. 1: it is not; it says why."""
    parser = argparse.ArgumentParser(description="Votes for a user in the poll of an issue.")
    parser.add_argument("url", help="of the service, as http://127.0.0.1:8080")
    parser.add_argument("--workspace", default="PLAT")
    parser.add_argument("--issue", default="PLAT-42")
    parser.add_argument("--user", default="42", help="who votes")
    options = parser.parse_args()
    token = os.environ.get("POLLS_TOKEN")
    if not token:
        parser.error("POLLS_TOKEN must hold a token")
    url = options.url.rstrip("/")
    place = {"workspace": options.workspace, "content": options.issue, "as_user_id": options.user}
    try:
        poll = post(f"{url}/rest/polls", token, POLL, **place)
        vote = {"optionIds": ["yes"]}
        cast = post(f"{url}/rest/votes", token, vote, **place, pollId=poll["id"])
    except urllib.error.HTTPError as error:
        # application/problem+json, with the reason in "detail".
        print(json.load(error)["detail"], file=sys.stderr)
        return 1
    except OSError as error:
        print(f"No answer from {url}: {error}", file=sys.stderr)
        return 1
    print(f"User {cast['userId']} voted {', '.join(cast['optionIds'])} in poll {poll['id']}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
