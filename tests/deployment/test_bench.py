"""What the bench says of votes that are gone or not counted, and how it reaches its contenders."""

import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from bench.contenders import fastify
from bench.processes import listening_on
from bench.stores import Tally, database_uri, tally
from tests.conftest import Raw


def test_a_ballot_without_its_count_and_a_count_without_its_ballot_are_told(
    raw: Raw, mongodb_uri: str
) -> None:
    raw.sessions.insert_many(
        [
            {"_id": 1, "results": {"1": 1, "2": 1}},
            {"_id": 2, "results": {"1": 0}},
            {"_id": 3, "results": {"1": 1}},
        ]
    )
    raw.ballots.insert_many([{"session_id": 1, "number": number} for number in (1, 2)])
    assert tally(mongodb_uri) == Tally(ballots=2, apart=1)
    raw.ballots.insert_one({"session_id": 2})
    assert tally(mongodb_uri) == Tally(ballots=3, apart=2)
    raw.ballots.insert_one({"session_id": 4})
    assert tally(mongodb_uri) == Tally(ballots=4, apart=3)


@pytest.mark.parametrize(
    ("server", "database"),
    [
        ("mongodb://127.0.0.1:1/", "mongodb://127.0.0.1:1/b"),
        ("mongodb://127.0.0.1:1/?replicaSet=a", "mongodb://127.0.0.1:1/b?replicaSet=a"),
        ("mongodb://u:p%40%2F@127.0.0.1:1/", "mongodb://u:p%40%2F@127.0.0.1:1/b?authSource=admin"),
        ("mongodb://u:p@127.0.0.1:1/own", "mongodb://u:p@127.0.0.1:1/b?authSource=own"),
        (
            "mongodb://u:p@127.0.0.1:1/?authSource=own&w=1",
            "mongodb://u:p@127.0.0.1:1/b?authSource=own&w=1",
        ),
    ],
)
def test_each_contender_has_a_database_of_its_own_under_the_servers_user(
    server: str, database: str
) -> None:
    assert database_uri(server, "b") == database


def test_the_database_server_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert listening_on(port).pid == os.getpid()
    with pytest.raises(LookupError):
        listening_on(port)


def test_without_node_fastify_is_left_out_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(fastify.NotInstalled, match="Node and npm"):
        fastify.install()


def test_modules_that_npm_cannot_install_are_told_in_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, script in (("node", "exit 0"), ("npm", "echo no such package >&2; exit 1")):
        program = tmp_path / name
        program.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fastify, "INSTALLED", tmp_path / "installed.json")
    with pytest.raises(fastify.NotInstalled, match="no such package"):
        fastify.install()
    assert not (tmp_path / "installed.json").exists()


def test_the_packages_of_fastify_are_of_one_version_each() -> None:
    versions = json.loads(fastify.PACKAGE.read_bytes())["dependencies"].values()
    assert versions
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
