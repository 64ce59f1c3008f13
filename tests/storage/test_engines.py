"""Which database an embedded store gets, and who gets in."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from storage.embedded.directory import DataDirectory
from storage.embedded.engines import ENGINES, Mongod, choose
from storage.embedded.server import EmbeddedServer, start
from storage.errors import StartupRefused
from storage.location import ENGINE_NAMES, EngineChoice
from tests.conftest import ADMIN, SECRET
from tests.support import engine
from tests.support.calls import POLL, call, place
from tests.support.processes import ROOT, Services, address_in, environment_without

pytestmark = pytest.mark.faults


NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def mongod() -> Mongod:
    """A mongod that runs here; where none does these tests fail."""
    found = list(Mongod.find(None))
    programs = [one for one in found if isinstance(one, Mongod)]
    assert programs, f"no mongod runs here: {found}"
    return programs[0]


@pytest.fixture
def on_mongod(tmp_path: Path, mongod: Mongod) -> Iterator[EmbeddedServer]:
    server = start(tmp_path / "data", EngineChoice(mongod=mongod.program))
    yield server
    server.stop()


def a_program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


LACKS_A_LIBRARY = "echo 'mongod: error while loading shared libraries: libcurl.so.4' >&2; exit 127"
TOO_OLD = "echo 'db version v5.0.31'"


def test_a_new_store_is_on_a_real_mongod_and_the_start_says_which(
    services: Services, mongod: Mongod
) -> None:
    service = services.start(POLLS_ENGINE="", POLLS_MONGOD="", POLLS_ADMIN_TOKEN=ADMIN)
    where = f"Store: MongoDB {mongod.version}, embedded, in {services.data_dir}. "
    assert where in service.output
    with services.raw() as client:
        assert "secantusVersion" not in client.admin.command("buildInfo")
        assert client.admin.command("hello")["setName"] == "polls"
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [(LACKS_A_LIBRARY, "does not run: .*libcurl.so.4"), (TOO_OLD, "is MongoDB 5.0.31, and 6.0 or")],
    ids=["that lacks a library", "that is too old"],
)
def test_a_mongod_on_the_path(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is passed over for the next that runs, and the choice says why."""
    a_program(tmp_path / "mongod", script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    data = DataDirectory(tmp_path / "data")
    os.close(data.claim())
    chosen, reasons = choose(data, EngineChoice())
    assert chosen.program != tmp_path / "mongod"
    [passed_over] = reasons
    assert passed_over.startswith(str(tmp_path / "mongod"))
    with pytest.raises(StartupRefused, match=reason):
        choose(DataDirectory(tmp_path / "other"), EngineChoice(mongod=tmp_path / "mongod"))


def test_where_no_mongod_runs_the_stand_in_serves_and_says_what_it_is_not_for(
    services: Services,
) -> None:
    environment = environment_without(services.home, "fiftyone")
    a_program(services.home / "mongod", LACKS_A_LIBRARY)
    started = subprocess.Popen(
        [environment / "bin" / "python", "-m", "service"],
        cwd=services.home,
        env={
            "PATH": f"{services.home}{os.pathsep}{Path(sys.executable).parent}",
            "PYTHONPATH": str(ROOT),
            "POLLS_PORT": "0",
            "POLLS_ADMIN_TOKEN": ADMIN,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with started:
        assert started.stdout is not None
        store = started.stdout.readline()
        assert store.startswith("Store: SecantusDB (a stand-in for MongoDB) 0.")
        assert "It is for trying out and for nothing else" in store
        assert "libcurl.so.4" in store
        url = started.stdout.readline().split()[-1]
        assert call(url, "POST", place(), token=ADMIN, body=POLL).status == 200
        started.terminate()
        assert started.wait(20) == 0


def test_a_mongod_that_is_named_and_does_not_run_is_refused_and_nothing_else_taken(
    services: Services,
) -> None:
    named = a_program(services.home / "broken", LACKS_A_LIBRARY)
    refused = services.run(POLLS_ENGINE="", POLLS_MONGOD=str(named))
    assert refused.status == 1
    assert str(named) in refused.sentence
    assert "libcurl.so.4" in refused.sentence
    assert "set MONGODB_URI to a MongoDB replica set" in refused.sentence
    assert not (services.data_dir / "engine.json").exists()


def test_a_store_keeps_the_engine_it_was_begun_with(services: Services) -> None:
    begun = services.start(POLLS_ENGINE="secantus", POLLS_MONGOD="", POLLS_ADMIN_TOKEN=ADMIN)
    stored = call(begun.url, "POST", place(), token=ADMIN, body=POLL).data
    assert begun.stop() == 0
    for name in ("", "mongod"):
        again = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_ENGINE=name, POLLS_MONGOD="")
        assert "Store: SecantusDB" in again.output
        is_told = "The store was created with secantus, and keeps it." in again.output
        assert is_told is (name == "mongod")
        assert call(again.url, "GET", place(), token=ADMIN).data == [stored]
        assert again.stop() == 0
    # As version 0.1 left it.
    (services.data_dir / "engine.json").unlink()
    again = services.start(POLLS_ENGINE="", POLLS_MONGOD="", POLLS_ADMIN_TOKEN=ADMIN)
    assert call(again.url, "GET", place(), token=ADMIN).data == [stored]
    assert again.stop() == 0


def test_a_store_whose_engine_does_not_run_here_is_refused_in_one_sentence(
    tmp_path: Path, mongod: Mongod
) -> None:
    data = DataDirectory(tmp_path / "data")
    os.close(data.claim())
    chosen, _ = choose(data, EngineChoice(mongod=mongod.program))
    data.write_mark(chosen.mark)
    broken = a_program(tmp_path / "broken", LACKS_A_LIBRARY)
    with pytest.raises(StartupRefused) as refused:
        choose(data, EngineChoice(mongod=broken))
    begun = f"was created with mongod {mongod.version}, which does not run here"
    assert begun in str(refused.value)


def test_the_settings_name_every_engine_in_its_order() -> None:
    assert tuple(kind.name for kind in ENGINES) == ENGINE_NAMES


def test_an_engine_that_nobody_knows_is_refused(services: Services) -> None:
    refused = services.run(POLLS_ENGINE="postgres")
    assert refused.status == 2
    assert refused.sentence == "POLLS_ENGINE must be one of mongod, secantus, not 'postgres'."


INTRUDER = """
import os, sys, pymongo
from pymongo.errors import PyMongoError
port, directory, user = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
os.setgroups([]); os.setgid(user); os.setuid(user)
for name in ("", "password", "keyfile", "secret", "engine.json", "endpoint.json", "store"):
    try:
        open(f"{directory}/{name}").close()
    except OSError as error:
        print(type(error).__name__)
    else:
        print("read", name)
with pymongo.MongoClient("127.0.0.1", port, directConnection=True) as client:
    for ask in (
        lambda: client.list_database_names(),
        lambda: client.polls.tokens.find_one(),
        lambda: client.polls.tokens.insert_one({}),
        lambda: client.admin.command("createUser", "me", pwd="me", roles=["root"]),
        lambda: client.admin.command("replSetGetConfig"),
        lambda: client.admin.command("shutdown"),
    ):
        try:
            print("let in", ask())
        except PyMongoError as error:
            print(error.code)
"""


@needs_root
def test_another_user_of_the_machine_gets_neither_into_the_database_nor_the_directory(
    on_mongod: EmbeddedServer, tmp_path: Path
) -> None:
    # So that the directory alone keeps them out, not those above it.
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.getuid() and len(above.parts) > 2:
            above.chmod(above.stat().st_mode | 0o055)
    port = pymongo.uri_parser.parse_uri(on_mongod.uri)["nodelist"][0][1]
    tried = subprocess.run(
        [sys.executable, "-c", INTRUDER, str(port), str(on_mongod.path), str(NOBODY)],
        env={},  # a user who measures no coverage for us
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert tried.stderr == ""
    refused = ["PermissionError"] * 7 + ["13"] * 6
    assert tried.stdout.split() == refused


def test_nobody_becomes_administrator_before_the_service_has_made_its_own_user(
    on_mongod: EmbeddedServer,
) -> None:
    """Without a user, a mongod lets the first that comes from its own machine make one."""
    with pymongo.MongoClient[dict[str, Any]](on_mongod.uri) as client:
        client.admin.command("dropAllUsersFromDatabase")
    stranger_uri = on_mongod.uri.partition("@")[2].partition("/")[0]
    with (
        pymongo.MongoClient[dict[str, Any]](stranger_uri, directConnection=True) as stranger,
        pytest.raises(OperationFailure) as refused,
    ):
        stranger.admin.command("createUser", "me", pwd="me", roles=["root"])
    assert refused.value.code == 13


def test_the_server_listens_on_loopback_alone_and_talks_without_compression(
    on_mongod: EmbeddedServer,
) -> None:
    with pymongo.MongoClient[dict[str, Any]](on_mongod.uri, compressors="zlib") as client:
        assert "compression" not in client.admin.command("hello", compression=["zlib", "snappy"])
        options = client.admin.command("getCmdLineOpts")["parsed"]
        parameters = client.admin.command("getParameter", "*")
    assert options["net"]["bindIp"] == "127.0.0.1"
    assert options["net"]["unixDomainSocket"] == {"enabled": False}
    assert options["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"] == 0.25
    assert parameters["enableLocalhostAuthBypass"] is False


def test_the_oplog_keeps_no_more_than_some_megabytes_of_what_was_deleted(
    on_mongod: EmbeddedServer,
) -> None:
    with pymongo.MongoClient[dict[str, Any]](on_mongod.uri) as client:
        assert client.local.command("collStats", "oplog.rs")["maxSize"] == 4 * 1024 * 1024


def test_no_vote_that_takes_long_stands_in_the_log_of_the_server(on_mongod: EmbeddedServer) -> None:
    with pymongo.MongoClient[dict[str, Any]](on_mongod.uri) as client:
        slow = {"$where": "sleep(300) || true"}
        client.test.votes.insert_one({"_id": "a vote"})
        client.test.votes.update_one({"_id": "a vote", **slow}, {"$inc": {"results.yes": 1}})
    assert "results.yes" not in DataDirectory(on_mongod.path).log.read_text()


def test_no_password_stands_where_other_users_can_read_it(services: Services) -> None:
    service = services.begin(
        "serve", "--workers", "2", POLLS_ENGINE="", POLLS_MONGOD="", POLLS_ADMIN_TOKEN=ADMIN
    )
    service.await_serving()
    password = (services.data_dir / "password").read_text().strip()
    assert password in address_in(services.data_dir)
    family = [service.pid, service.guard_pid, service.server_pid, *service.worker_pids]
    assert len(family) == 5
    for pid in family:
        assert password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert password not in service.output + service.log
    assert service.stop() == 0


def test_a_store_that_lost_the_password_of_its_database_makes_a_new_one(
    services: Services,
) -> None:
    begun = services.start(POLLS_ENGINE="mongod", POLLS_ADMIN_TOKEN=ADMIN)
    stored = call(begun.url, "POST", place(), token=ADMIN, body=POLL).data
    assert begun.stop() == 0
    for name in ("password", "keyfile"):
        (services.data_dir / name).unlink()
    again = services.start(POLLS_ENGINE="mongod", POLLS_ADMIN_TOKEN=ADMIN)
    assert call(again.url, "GET", place(), token=ADMIN).data == [stored]
    assert again.stop() == 0


def shared_with_others(directory: Path) -> list[Path]:
    return [
        path
        for path in (directory, *directory.rglob("*"))
        if stat.S_IMODE(path.lstat().st_mode) & 0o077
    ]


def test_a_data_directory_becomes_its_owners_alone_whatever_it_was(services: Services) -> None:
    before = os.umask(0)
    try:
        services.data_dir.mkdir(mode=0o777)
        for _ in range(2):
            service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
            assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
            assert shared_with_others(services.data_dir) == []
            assert service.stop() == 0
            assert shared_with_others(services.data_dir) == []
            for path in (services.data_dir, *services.data_dir.rglob("*")):
                path.chmod(0o777 if path.is_dir() else 0o666)
    finally:
        os.umask(before)


@pytest.mark.parametrize("beside", [None, "store", "lock", "secret"])
def test_a_directory_that_holds_something_else_is_refused_and_left_as_it_was(
    services: Services, beside: str | None
) -> None:
    """Closing it to others could break the whole machine, as for /var/lib."""
    services.data_dir.mkdir(mode=0o755)
    (services.data_dir / "notes.txt").write_text("mine")
    if beside is not None:
        (services.data_dir / beside).touch()
    services.data_dir.chmod(0o755)
    refused = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert refused.sentence == (
        f"The data directory {services.data_dir} cannot be used: "
        "it holds other files; name an empty directory."
    )
    assert stat.S_IMODE(services.data_dir.stat().st_mode) == 0o755
    left = {path.name for path in services.data_dir.iterdir()}
    assert left == {"notes.txt", beside} - {None}


@needs_root
def test_a_directory_that_belongs_to_another_user_is_refused(services: Services) -> None:
    """Its owner could put other files in the place of ours."""
    services.data_dir.mkdir()
    os.chown(services.data_dir, NOBODY, NOBODY)
    refused = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert f"data belongs to the user {NOBODY}, and this is the user 0." in refused.sentence
    assert list(services.data_dir.iterdir()) == []


@needs_root
def test_a_key_that_another_user_has_put_there_is_refused(services: Services) -> None:
    services.data_dir.mkdir()
    (services.data_dir / "keyfile").write_text("known to nobody else")
    os.chown(services.data_dir / "keyfile", NOBODY, NOBODY)
    refused = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert f"keyfile belongs to the user {NOBODY}" in refused.sentence


def test_a_store_that_is_a_link_to_elsewhere_is_refused(services: Services) -> None:
    services.data_dir.mkdir()
    (services.home / "elsewhere").mkdir(mode=0o755)
    (services.data_dir / "store").symlink_to(services.home / "elsewhere")
    refused = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert refused.sentence.endswith("cannot be used: its store is a symbolic link.")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("engine.json", text) for text in (b"", b"{", b"{}", b"[]", b"\xff")),
        *(("password", b"\xff"), ("keyfile", b"\xff"), ("secret", b"\xff")),
    ],
)
def test_a_file_of_the_directory_that_is_damaged_is_named_and_not_shown(
    services: Services, name: str, content: bytes
) -> None:
    begun = services.start(POLLS_ENGINE="mongod", POLLS_ADMIN_TOKEN=ADMIN)
    assert begun.stop() == 0
    (services.data_dir / name).write_bytes(content)
    refused = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert refused.sentence.startswith(
        f"The file {services.data_dir / name} is damaged: restore it"
    )


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"port": 1, "pid": "x", "holder": "service"}'])
def test_an_endpoint_that_makes_no_sense_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "endpoint.json").write_bytes(content)
    assert DataDirectory(tmp_path).read_endpoint() is None


def test_a_store_that_lost_its_mark_is_recognised_by_its_files(services: Services) -> None:
    begun = services.start(POLLS_ENGINE="mongod", POLLS_ADMIN_TOKEN=ADMIN)
    stored = call(begun.url, "POST", place(), token=ADMIN, body=POLL).data
    assert begun.stop() == 0
    mark = services.data_dir / "engine.json"
    mark.write_text("{")
    refused = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert refused.status == 1
    assert refused.sentence == f"The file {mark} is damaged: restore it, or remove it."
    mark.unlink()
    again = services.start(POLLS_ENGINE="secantus", POLLS_MONGOD="", POLLS_ADMIN_TOKEN=ADMIN)
    assert "Store: MongoDB" in again.output
    assert call(again.url, "GET", place(), token=ADMIN).data == [stored]
    assert again.stop() == 0


def test_a_mongod_that_is_named_beside_another_engine_is_refused(services: Services) -> None:
    refused = services.run(POLLS_ENGINE="secantus", POLLS_MONGOD="/usr/bin/mongod")
    assert refused.status == 2
    assert refused.sentence == (
        "POLLS_MONGOD cannot be combined with POLLS_ENGINE=secantus: unset one."
    )


def test_a_server_of_the_surroundings_is_not_that_of_the_workers(
    services: Services, mongodb_uri: str
) -> None:
    """Only a parent tells its workers where its embedded server is."""
    service = services.start(
        MONGODB_URI=mongodb_uri,
        POLLS_EMBEDDED_URI="mongodb://127.0.0.1:1/polls?replicaSet=elsewhere",
        POLLS_SECRET=SECRET,
        POLLS_ADMIN_TOKEN=ADMIN,
        POLLS_WORKERS="2",
    )
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    assert service.stop() == 0


def test_a_guard_imports_nothing_from_where_the_service_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("select.py", "ctypes.py"):
        (tmp_path / name).write_text("raise SystemExit('taken from elsewhere')\n")
    monkeypatch.chdir(tmp_path)
    start(tmp_path / "data", engine.chosen()).stop()
