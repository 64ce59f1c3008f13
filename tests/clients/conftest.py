"""A service of its own process, and canvasapi connected to it as each of its users."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
import pytest
from canvasapi import Canvas

from service.rules.principal import ACTIONS
from storage.documents import utc_now
from storage.embedded.server import EmbeddedServer
from storage.location import Location
from storage.startup import open_store
from tests.conftest import ADMIN, SECRET

COURSE, SECTION = 10, 101
OWNER, STUDENT, STRANGER = 1, 4, 9


class Service(NamedTuple):
    url: str
    tokens: dict[int, str]


@pytest.fixture(scope="module")
def service(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """``python -m service`` on a database of its own, and a token of each user."""
    place = tmp_path_factory.mktemp("canvasapi")
    name = f"test_{uuid.uuid4().hex}"
    uri = server.uri.replace("/?", f"/{name}?")
    tokens = asyncio.run(make_tokens(Location(uri, place, SECRET)))
    environment = {
        **os.environ,
        "MONGODB_URI": uri,
        "POLLS_SECRET": SECRET,
        "POLLS_ADMIN_TOKEN": ADMIN,
        "POLLS_PORT": "0",
        "POLLS_DATA_DIR": str(place),
    }
    command = [sys.executable, "-m", "service"]
    with (
        (place / "log").open("wb") as log,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        lines = iter(process.stdout)
        url = next(line.split()[-1] for line in lines if line.startswith("Serving on "))
        yield Service(url, tokens)
        process.terminate()
        assert process.wait(10) == 0
    assert_no_secret((place / "log"), tokens)
    with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        client.drop_database(name)


async def make_tokens(location: Location) -> dict[int, str]:
    tokens = {user_id: f"secret-{uuid.uuid4().hex}" for user_id in (OWNER, STUDENT, STRANGER)}
    async with open_store(location) as store:
        for user_id, secret in tokens.items():
            await store.tokens.create(
                secret, name=f"user {user_id}", user_id=user_id, actions=ACTIONS, now=utc_now()
            )
    return tokens


def assert_no_secret(log: Path, tokens: dict[int, str]) -> None:
    text = log.read_text()
    assert '"status":200' in text.replace(" ", "")
    assert not any(secret in text for secret in (*tokens.values(), ADMIN))


def connect(service: Service, secret: str) -> Iterator[Any]:
    with pytest.warns(UserWarning, match="HTTP URLs"):
        canvas = Canvas(service.url, secret)
    yield canvas
    # The library leaves its connections to the garbage collector, which warns of them.
    canvas._Canvas__requester._session.close()


@pytest.fixture
def admin(service: Service) -> Iterator[Any]:
    yield from connect(service, ADMIN)


@pytest.fixture
def owner(service: Service, admin: Any) -> Iterator[Any]:
    admin.get_course(COURSE).enroll_user(OWNER, enrollment={"type": "TeacherEnrollment"})
    yield from connect(service, service.tokens[OWNER])


@pytest.fixture
def student(service: Service, admin: Any) -> Iterator[Any]:
    admin.get_course(COURSE).enroll_user(STUDENT, enrollment={"course_section_id": SECTION})
    yield from connect(service, service.tokens[STUDENT])


@pytest.fixture
def stranger(service: Service) -> Iterator[Any]:
    yield from connect(service, service.tokens[STRANGER])
