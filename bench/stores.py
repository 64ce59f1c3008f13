"""The contenders' stores: a database each on one server, and what it holds after a load."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pymongo

TALLY_SECONDS = 60


def database_uri(uri: str, name: str) -> str:
    """The database ``name`` on the server at ``uri``, with the same user, password and options."""
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if "@" in parts.netloc:
        # A user is looked up in the database that a URI names, unless it says where.
        options.setdefault("authSource", parts.path.strip("/") or "admin")
    return parts._replace(path=f"/{name}", query=urlencode(options)).geturl()


@dataclass(frozen=True, slots=True)
class Tally:
    """``apart``: by how many votes the sessions' counts differ from their ballots, in sum."""

    ballots: int
    apart: int


def tally(uri: str) -> Tally:
    """Counts the votes of a store after a load; each has chosen one option.

    What was in flight when the load ended may still arrive: where counts and ballots differ, it
    counts again until nothing has changed for a second, for a minute at most.
    """
    deadline, counted = time.monotonic() + TALLY_SECONDS, _count(uri)
    while counted.apart and time.monotonic() < deadline:
        time.sleep(1)
        before, counted = counted, _count(uri)
        if counted == before:
            break
    return counted


def _count(uri: str) -> Tally:
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        sessions = database.sessions.find({}, {"results": 1})
        counted = {session["_id"]: sum(session["results"].values()) for session in sessions}
        each = {"$group": {"_id": "$session_id", "ballots": {"$sum": 1}}}
        stored = {group["_id"]: group["ballots"] for group in database.ballots.aggregate([each])}
    return Tally(sum(stored.values()), difference(counted, stored))


def difference(counted: Mapping[int, int], stored: Mapping[int, int]) -> int:
    """Too many in one session do not make up for too few in another."""
    sessions = counted.keys() | stored.keys()
    return sum(abs(counted.get(one, 0) - stored.get(one, 0)) for one in sessions)
