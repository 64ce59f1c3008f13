"""Secrets from files: what a service, a worker and a command take, and what they refuse."""

import re
import signal
from os import kill
from pathlib import Path
from typing import Any

import pytest

from service.settings import SECRET_FILES, InvalidSetting, read_settings
from tests.conftest import ADMIN, SECRET
from tests.support.calls import POLL, call, place
from tests.support.processes import Service, Services, children_of, until

pytestmark = pytest.mark.faults

URI = "mongodb://theuser:thepassword@127.0.0.1:1/thedatabase"
CONTENTS = {"MONGODB_URI": URI, "POLLS_SECRET": SECRET, "POLLS_ADMIN_TOKEN": ADMIN}
NAMES = pytest.mark.parametrize("name", list(SECRET_FILES))


def written(directory: Path, contents: dict[str, str], end: str = "\n") -> dict[str, Any]:
    """The variables that name files with these contents."""
    for name, content in contents.items():
        (directory / name).write_bytes(f"{content}{end}".encode())
    return {SECRET_FILES[name]: str(directory / name) for name in contents}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_gives_its_content_without_the_newline_at_its_end(tmp_path: Path, end: str) -> None:
    assert read_settings(written(tmp_path, CONTENTS, end)) == read_settings(CONTENTS)


def test_only_one_newline_is_taken_off_and_no_space(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, {"POLLS_ADMIN_TOKEN": f" {ADMIN} \n"}))
    assert settings.admin_token == f" {ADMIN} \n"


@NAMES
def test_a_secret_and_its_file_together_are_refused(tmp_path: Path, name: str) -> None:
    given = written(tmp_path, CONTENTS)
    with pytest.raises(InvalidSetting) as refused:
        read_settings({**given, name: CONTENTS[name]})
    assert str(refused.value) == f"Set either {name} or {name}_FILE, not both."


@NAMES
def test_an_empty_variable_beside_the_file_counts_as_unset(tmp_path: Path, name: str) -> None:
    given = written(tmp_path, CONTENTS)
    assert read_settings({**given, name: ""}) == read_settings(CONTENTS)


@NAMES
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "which is empty"),
        (b"\n", "which is empty"),
        (b"the-secret-in-latin-1-\xe9", "which is not UTF-8 text"),
        (None, "which cannot be read: No such file or directory"),
    ],
)
def test_a_file_without_a_secret_is_refused_by_its_variable_and_its_path(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSetting) as refused:
        read_settings({f"{name}_FILE": str(path)})
    assert str(refused.value) == f"{name}_FILE names {path}, {reason}."
    # A decoding error holds the bytes that it could not decode.
    assert not isinstance(refused.value.__cause__, UnicodeDecodeError)


@pytest.mark.parametrize("name", SECRET_FILES)
def test_a_secret_that_stands_where_its_path_should_is_not_shown(name: str) -> None:
    for secret in ("mongodb://user:hunter2secret@host/polls", "hunter2secret-and-more-of-it"):
        with pytest.raises(InvalidSetting) as refused:
            read_settings({SECRET_FILES[name]: secret})
        assert str(refused.value).startswith(f"{SECRET_FILES[name]} does not name a readable file")
        assert "hunter2" not in str(refused.value)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="which cannot be read: Is a directory"):
        read_settings({"POLLS_SECRET_FILE": str(tmp_path)})


@pytest.mark.parametrize("name", ["POLLS_SECRET", "POLLS_ADMIN_TOKEN"])
def test_a_short_secret_is_refused_and_not_shown(tmp_path: Path, name: str) -> None:
    long, short = "sixteen-letters!", "fifteen-letters"
    for given in ({name: short}, written(tmp_path, {name: short})):
        with pytest.raises(InvalidSetting) as refused:
            read_settings(given)
        assert str(refused.value).startswith(f"{name} must have at least 16 characters.")
        assert short not in str(refused.value)
    for given in ({name: long}, written(tmp_path, {name: long})):
        assert long in (read_settings(given).secret, read_settings(given).admin_token)


def test_settings_from_files_do_not_show_their_secrets(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, CONTENTS))
    shown = f"{settings!r} {settings}"
    assert not any(secret in shown for secret in CONTENTS.values())


def test_a_database_whose_secret_is_missing_names_both_ways_to_give_it(services: Services) -> None:
    refused = services.run(**written(services.home, {"MONGODB_URI": URI}))
    assert refused.status == 2
    assert refused.sentence.startswith(
        "POLLS_SECRET or POLLS_SECRET_FILE must be set if MONGODB_URI is: "
    )
    assert "thepassword" not in refused.err


# Processes ------------------------------------------------------------------------------------


@pytest.fixture
def files(services: Services, mongodb_uri: str) -> dict[str, Any]:
    return written(services.home, {**CONTENTS, "MONGODB_URI": mongodb_uri})


def refused_worker(service: Service, variable: str) -> str | None:
    found = re.search(rf"^polls: {variable} names .*$", service.log, re.MULTILINE)
    return found and found[0]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_and_its_commands_take_their_secrets_from_files(
    services: Services, files: dict[str, Any], workers: str
) -> None:
    service = services.start(**files, POLLS_WORKERS=workers)
    assert "Store: the MongoDB of MONGODB_URI." in service.output
    assert not services.data_dir.exists()
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    made = services.run("token", "create", "--name", "bot", "--user", "7", "--admin", **files)
    assert made.status == 0, made.err
    token = made.out.strip()
    assert call(service.url, "GET", place(), token=token).status == 200
    assert service.stop() == 0
    said = service.output + service.log
    assert not any(secret in said for secret in (ADMIN, SECRET, token))


def test_a_worker_whose_file_is_gone_says_so_in_a_sentence_and_is_started_again(
    services: Services, files: dict[str, Any]
) -> None:
    service = services.start(**files, POLLS_WORKERS="2")
    secret = Path(files["POLLS_SECRET_FILE"])
    secret.rename(secret.with_suffix(".away"))
    victim, other = service.worker_pids
    kill(victim, signal.SIGKILL)
    sentence = until(lambda: refused_worker(service, "POLLS_SECRET_FILE"), "a worker's refusal")
    assert sentence.endswith(f"{secret}, which cannot be read: No such file or directory.")
    secret.with_suffix(".away").rename(secret)
    until(
        lambda: service.log.count("worker ended") >= 2 and len(service.worker_pids) == 2,
        "another worker",
    )
    assert other in service.worker_pids
    assert "Traceback" not in service.log
    assert call(service.url, "GET", "/readyz").status == 200
    assert service.stop() == 0


def begin_gunicorn(services: Services, **environment: Any) -> Service:
    return services.begin(
        *("--worker-class", "service.server.gunicorn.Worker", "--bind", "127.0.0.1:0"),
        "service.server.gunicorn:app",
        module="gunicorn",
        **environment,
    )


def test_gunicorn_takes_its_secrets_from_files(services: Services, files: dict[str, Any]) -> None:
    service = begin_gunicorn(services, **files)
    found = until(lambda: re.search(r"Listening at: (\S+)", service.log), "its address")
    [worker] = until(lambda: children_of(service.pid, "service.server.gunicorn:app"), "its worker")
    service.family.add(worker)
    assert call(found[1], "POST", place(), token=ADMIN, body=POLL).status == 200
    assert service.stop() == 0


def test_gunicorn_refuses_an_empty_file_in_a_sentence(
    services: Services, files: dict[str, Any]
) -> None:
    path = Path(files["POLLS_ADMIN_TOKEN_FILE"])
    path.write_bytes(b"")
    refused = begin_gunicorn(services, **files)
    assert refused.wait() == 4
    assert f"polls: POLLS_ADMIN_TOKEN_FILE names {path}, which is empty." in refused.log
    assert "Traceback" not in refused.log
