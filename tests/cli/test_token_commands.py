"""``python -m service token …``, with a running service and without one."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli import main
from tests.conftest import SECRET, Raw
from tests.support.calls import POLL, call, place
from tests.support.processes import Finished, Service, Services, services_in, until

pytestmark = pytest.mark.faults

Captured = pytest.CaptureFixture[str]

COLUMNS = [
    *("NAME", "USER", "STATE", "ADMIN", "ACTIONS", "WORKSPACES", "COURSES", "POLLS"),
    *("CREATED", "EXPIRES"),
]
POLL_ID = "ee9107b5-5041-4c15-8c76-f14404fa1fad"


class Running:
    """A service, and commands on its directory."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.service: Service = services.start()

    def token(self, *arguments: str) -> Finished:
        return self.services.run("token", *arguments)

    def tokens(self, *creations: str) -> list[str]:
        """The secrets of several tokens, made at once."""
        commands = [self.services.begin("token", "create", *line.split()) for line in creations]
        assert [command.wait() for command in commands] == [0] * len(creations)
        return [command.output.strip() for command in commands]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with services_in(tmp_path_factory.mktemp("tokens")) as services:
        yield Running(services)


def secret_of(created: Finished, *, is_first: bool = False) -> str:
    """What was printed: the secret, alone; ``is_first`` if it is to create the store, too."""
    assert created.status == 0, created.err
    said = created.err.splitlines()
    assert [line.partition(": ")[2].startswith("created a new store: ") for line in said] == (
        [True] if is_first else []
    )
    assert re.fullmatch(r"polls_[A-Za-z0-9_-]{43}\n", created.out)
    return created.out.strip()


def rows(listed: Finished) -> dict[str, list[str]]:
    assert listed.status == 0, listed.err
    header, *lines = [re.split(r"  +", line) for line in listed.out.splitlines()]
    assert header == COLUMNS
    return {line[0]: line for line in lines}


def test_a_token_made_beside_a_running_service_works_there_at_once_and_until_it_is_revoked(
    running: Running,
) -> None:
    url = running.service.url
    secret = secret_of(running.token("create", "--name", "bot", "--user", "7", "--workspace", "*"))
    created = call(url, "POST", place("BOT-1"), token=secret, body=POLL)
    assert created.status == 200
    revoked = running.token("revoke", "bot")
    assert (revoked.status, revoked.out, revoked.err) == (0, "", "")
    until(
        lambda: call(url, "GET", place("BOT-1"), token=secret).status == 403,
        "the end of a revoked token",
        within=5,
    )
    assert running.token("revoke", "bot").status == 1
    assert rows(running.token("list"))["bot"][2] == "revoked"
    assert running.service.is_running


def test_what_a_token_may_do_is_what_was_asked_for(running: Running) -> None:
    url = running.service.url
    narrow, none, admin, _, _ = running.tokens(
        "--name narrow --user 9007199254740991 --action read --workspace PLAT --workspace OPS",
        "--name none --user 7",
        "--name chief --user 7 --admin",
        "--name service --user 8 --action act --action vote --course 5 --course 6",
        f"--name page --user 42 --action vote --workspace PLAT --poll {POLL_ID.upper()}",
    )
    assert call(url, "GET", place("PLAT-9"), token=narrow).status == 200
    assert call(url, "POST", place("PLAT-9"), token=narrow, body=POLL).status == 403
    elsewhere = place("PLAT-9").replace("workspace=PLAT", "workspace=ELSE")
    assert call(url, "GET", elsewhere, token=narrow).status == 403
    assert call(url, "GET", place("PLAT-9"), token=none).status == 403
    assert call(url, "GET", place("PLAT-9", as_user_id="3"), token=admin).status == 200
    listed = rows(running.token("list"))
    assert listed["narrow"][1:8] == ["9007199254740991", "live", "no", "read", "PLAT,OPS", "-", "-"]
    assert listed["none"][1:8] == ["7", "live", "no", "read,write,vote", "-", "-", "-"]
    assert listed["chief"][1:8] == ["7", "live", "yes", "read,write,vote", "*", "*", "-"]
    assert listed["service"][1:8] == ["8", "live", "no", "act,vote", "-", "5,6", "-"]
    assert listed["page"][1:8] == ["42", "live", "no", "vote", "PLAT", "-", POLL_ID]


def test_the_user_of_a_token_is_a_number_or_a_string(running: Running) -> None:
    users = {
        "number": "42",
        "account": "557058:f58131cb",
        "zero": "042",
        "large": "9007199254740992",
    }
    running.tokens(*(f"--name {name} --user {user}" for name, user in users.items()))
    listed = rows(running.token("list"))
    assert {name: listed[name][1] for name in users} == users
    with running.services.raw() as raw:
        stored = {one["name"]: one["user_id"] for one in raw.polls.tokens.find()}
    assert {name: stored[name] for name in users} == {**users, "number": 42}


def test_a_name_is_unique_among_live_tokens_and_free_again_after_them(running: Running) -> None:
    create = ("create", "--name", "again", "--user", "7")
    secret_of(running.token(*create))
    taken = running.token(*create)
    assert taken.status == 1
    assert taken.sentence == (
        "A token named 'again' already exists. Choose another name, or revoke it."
    )
    assert running.token("revoke", "again").status == 0
    secret_of(running.token(*create))


def test_the_list_shows_no_secret_and_no_hash(running: Running) -> None:
    first = running.service.first_token
    secret = secret_of(
        running.token(
            *("create", "--name", "ünï cödé", "--user", "7"),
            *("--expires", "2999-01-31T18:00:00+01:00"),
        )
    )
    listed = running.token("list")
    for hidden in (first, secret):
        assert hidden not in listed.out
        assert hashlib.sha256(hidden.encode()).hexdigest()[:8] not in listed.out
    shown = rows(listed)
    assert shown["admin"][1:4] == ["0", "live", "yes"]
    assert shown["ünï cödé"][9] == "2999-01-31T17:00:00Z"


def test_only_the_sha_256_of_a_secret_is_stored(running: Running) -> None:
    secret = secret_of(running.token("create", "--name", "hashed", "--user", "7"))
    with running.services.raw() as raw:
        (stored,) = raw.polls.tokens.find({"name": "hashed"})
        everything = str(
            [list(raw.polls[name].find()) for name in raw.polls.list_collection_names()]
        )
    assert stored["_id"] == hashlib.sha256(secret.encode()).hexdigest()
    for hidden in (secret, running.service.first_token):
        assert hidden not in everything
        assert hidden.removeprefix("polls_") not in everything


def test_commands_work_without_a_service_and_leave_no_server_behind(services: Services) -> None:
    secret = secret_of(
        services.run("token", "create", "--name", "early", "--user", "7", "--workspace", "PLAT"),
        is_first=True,
    )
    assert not (services.data_dir / "endpoint.json").exists()
    service = services.start()
    assert "Admin token" not in service.output  # the store has a token already
    assert call(service.url, "GET", place(), token=secret).status == 200
    assert service.stop() == 0
    assert services.run("token", "revoke", "early").status == 0
    assert rows(services.run("token", "list"))["early"][2] == "revoked"


def test_a_token_whose_secret_cannot_be_written_does_not_live(running: Running) -> None:
    command = ("token", "create", "--name", "unseen", "--user", "7")
    full = running.services.run(*command, redirection="> /dev/full")
    assert full.status == 1
    assert full.sentence == (
        "Cannot write to standard output: no space left on device. The token, which nobody has "
        "seen, was revoked."
    )
    assert rows(running.token("list"))["unseen"][2] == "revoked"
    closed = running.services.run(*command, redirection=">&-")
    assert closed.status == 1
    assert closed.sentence == (
        "Standard output is closed, so no token was created: nobody would see it."
    )
    assert running.token("list").out.count("unseen") == 1
    # What is said of a new store is for standard error alone.
    secret_of(running.services.run(*command, redirection="2>&-"))
    assert rows(running.token("list"))["unseen"][2] in ("live", "revoked")
    assert running.token("list").out.count("unseen") == 2


@pytest.mark.parametrize("command", ["token list", "recount", "openapi"])
def test_a_command_whose_output_is_closed_or_lost_ends_in_order(
    running: Running, command: str
) -> None:
    closed = running.services.run(*command.split(), redirection="<&- >&-")
    assert (closed.status, closed.err) == (0, "")
    lost = running.services.run(*command.split(), redirection="> /dev/full")
    assert lost.status == 1
    assert lost.sentence == "No space left on device"


def test_the_list_is_shown_where_the_terminal_lacks_the_letters_of_a_name(running: Running) -> None:
    secret_of(running.token("create", "--name", "Größe", "--user", "7"))
    listed = running.services.run("token", "list", PYTHONIOENCODING="ascii")
    assert rows(listed)["Gr\\xf6\\xdfe"][2] == "live"


def test_commands_on_one_directory_wait_for_each_other(services: Services) -> None:
    names = [f"bot {number}" for number in range(3)]
    commands = [services.begin("token", "create", "--name", name, "--user", "7") for name in names]
    assert [command.wait(30) for command in commands] == [0] * 3, [c.log for c in commands]
    assert sorted(rows(services.run("token", "list"))) == names


def test_a_command_reaches_a_database_of_ones_own(
    services: Services, mongodb_uri: str, raw: Raw
) -> None:
    where: dict[str, Any] = {"MONGODB_URI": mongodb_uri, "POLLS_SECRET": SECRET}
    for is_first, name in ((True, "bot"), (False, "bee")):
        created = services.run("token", "create", "--name", name, "--user", "7", **where)
        secret_of(created, is_first=is_first)
    assert raw.tokens.count_documents({"user_id": 7}) == 2


COMMANDS_ON_A_STORE = (["token", "list"], ["token", "revoke", "bot"], ["recount"])


WRONG_DIRECTORIES: dict[str, dict[str, str]] = {
    "none": {},
    "with an empty folder": {"store/": ""},
    "with what is left of a store": {
        "lock": "",
        "store/": "",
        "engine.json": '{"engine": "mongod", "version": "7.0.0"}',
        "secret": "a-secret-of-an-old-store",
    },
}


@pytest.mark.parametrize("found", WRONG_DIRECTORIES.values(), ids=list(WRONG_DIRECTORIES))
@pytest.mark.parametrize("command", COMMANDS_ON_A_STORE, ids=" ".join)
def test_a_command_in_the_wrong_directory_says_so_and_makes_no_store(
    command: list[str],
    found: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    tmp_path: Path,
) -> None:
    wrong = tmp_path / "data"
    for name, text in found.items():
        path = wrong / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.write_text(text)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setenv("POLLS_DATA_DIR", str(wrong))
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"polls: There is no store in {wrong}: set POLLS_DATA_DIR to ")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("command", COMMANDS_ON_A_STORE, ids=" ".join)
def test_a_command_on_the_wrong_database_says_so_and_makes_no_store(
    command: list[str],
    mongodb_uri: str,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongodb_uri.replace("/test?", "/wrong?"))
    monkeypatch.setenv("POLLS_SECRET", SECRET)
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("polls: The database of MONGODB_URI holds no store: ")
    assert raw.client.wrong.list_collection_names() == []


BAD = {
    "no name": (["--user", "7"], "--name"),
    "no user": (["--name", "bad"], "--user"),
    "an empty name": (["--name", "", "--user", "7"], "1 to 100 printable"),
    "a long name": (["--name", "n" * 101, "--user", "7"], "1 to 100 printable"),
    "a name of two lines": (["--name", "a\nb", "--user", "7"], "1 to 100 printable"),
    "user 0": (["--name", "bad", "--user", "0"], "a whole number from 1 to 2^53-1"),
    "user self": (["--name", "bad", "--user", "self"], "neither 0 nor self"),
    "a user of two lines": (["--name", "bad", "--user", "u\n42"], "128 printable characters"),
    "a user with a space": (["--name", "bad", "--user", " 42"], "without a space at either end"),
    "a long user": (["--name", "bad", "--user", "u" * 129], "1 to 128 printable characters"),
    "the workspace users": (
        ["--name", "bad", "--user", "7", "--workspace", "users"],
        "must have 1 to 255 printable characters, and not be users",
    ),
    "an empty workspace": (["--name", "bad", "--user", "7", "--workspace", ""], "1 to 255"),
    "an unknown action": (["--name", "bad", "--user", "7", "--action", "admin"], "invalid choice"),
    "no course": (["--name", "bad", "--user", "7", "--course", "x"], "2^53-1, or *"),
    "no poll": (["--name", "bad", "--user", "7", "--poll", "x"], "must be the UUID of a poll"),
    "a moment without an offset": (
        ["--name", "bad", "--user", "7", "--expires", "2027-01-31T18:00:00"],
        "must be a time such as 2027-01-31T18:00:00+01:00",
    ),
    "a moment that is none": (
        ["--name", "bad", "--user", "7", "--expires", "tomorrow"],
        "must be a time such as 2027-01-31T18:00:00+01:00",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD)
def test_a_misused_command_says_why(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as misused:
        main(["token", "create", *arguments])
    assert misused.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err.splitlines()[-1]


NO_LIMIT = "would not limit an admin token, which may do everything, everywhere."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--admin", "--workspace", "PLAT"], f"--workspace {NO_LIMIT}"),
        (["--admin", "--action", "read"], f"--action {NO_LIMIT}"),
        (["--admin", "--course", "5"], f"--course {NO_LIMIT}"),
        (["--admin", "--poll", POLL_ID], f"--poll {NO_LIMIT}"),
        (["--course", "5"], "--course would limit nothing without the action act."),
        (
            ["--action", "act", "--course", "*"],
            "--action must have read, write or vote beside act.",
        ),
        (
            ["--action", "act", "--action", "vote"],
            "--action must not have act without a workspace or a course to act in.",
        ),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else None,
)
def test_a_token_with_limits_that_would_not_hold_is_refused(
    options: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("POLLS_DATA_DIR", str(tmp_path / "data"))
    assert main(["token", "create", "--name", "bad", "--user", "7", *options]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"polls: {sentence}\n")
    assert not (tmp_path / "data").exists()


def test_a_token_that_would_have_expired_already_is_not_created(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    monkeypatch.setenv("POLLS_DATA_DIR", str(tmp_path / "data"))
    past = ("--expires", "2020-01-01T00:00:00Z")
    assert main(["token", "create", "--name", "dead", "--user", "7", *past]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "polls: --expires must be in the future.\n")
    assert not (tmp_path / "data").exists()


def test_misuse_ends_the_process_with_status_2_and_touches_no_store(services: Services) -> None:
    misused = services.run("token", "create", "--name", "bad", "--user", "0")
    assert misused.status == 2
    assert misused.out == ""
    assert "Traceback" not in misused.err
    assert not services.data_dir.exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["serve", "token", "POLLS_DATA_DIR"]),
        (["token"], ["create", "list", "revoke"]),
        (["token", "create"], ["--admin", "--workspace", "--action", "--course", "--poll"]),
        (["token", "list"], ["usage"]),
        (["token", "revoke"], ["NAME"]),
    ],
)
def test_help_explains_the_commands(
    command: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert all(word in said.out for word in words)
    assert "python -m service" in said.out
