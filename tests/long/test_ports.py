"""A port that somebody else has taken meanwhile."""

import socket
from pathlib import Path
from typing import Any

import pymongo

from storage.embedded.engines import Mongod
from storage.embedded.server import start
from storage.location import EngineChoice


def test_a_store_opens_although_somebody_silent_listens_on_its_old_port(
    tmp_path: Path,
) -> None:
    """A mongod looks for itself there for 30 s, before it takes up the new one."""
    choice = EngineChoice(Mongod.name)
    begun = start(tmp_path / "data", choice)
    begun.stop()
    [(host, port)] = pymongo.uri_parser.parse_uri(begun.uri)["nodelist"]
    with socket.create_server((host, port)):
        again = start(tmp_path / "data", choice)
        with pymongo.MongoClient[dict[str, Any]](again.uri) as client:
            client.polls.probes.insert_one({})
        again.stop()
