"""The service under gunicorn: the same answers, the same stop."""

import os
import re
import signal

import pymongo

from tests.conftest import ADMIN, SECRET, Raw
from tests.support.calls import POLL, Connection, call, is_refused, place, request, talk
from tests.support.processes import Service, Services, children_of, slow, until

COMMAND = ("--worker-class", "service.server.gunicorn.Worker", "--bind", "127.0.0.1:0")


def start(services: Services, mongodb_uri: str) -> str:
    """The URL of a service of two workers that serve."""
    service = services.begin(
        *COMMAND,
        *("--workers", "2", "service.server.gunicorn:app"),
        module="gunicorn",
        MONGODB_URI=mongodb_uri,
        POLLS_SECRET=SECRET,
        POLLS_ADMIN_TOKEN=ADMIN,
    )
    found = until(lambda: re.search(r"Listening at: (\S+)", service.log), "its address")
    until(lambda: len(workers_of(service)) == 2, "its workers")
    return found[1]


def workers_of(service: Service) -> list[int]:
    found = children_of(service.pid, "service.server.gunicorn:app")
    service.family |= set(found)
    return found


def test_gunicorn_serves_answers_nonsense_with_a_problem_and_drains(
    services: Services, mongodb_uri: str, raw: Raw
) -> None:
    url = start(services, mongodb_uri)
    [service] = services.started
    assert call(url, "POST", place(), token=ADMIN, body=POLL).status == 200
    broken = talk(url, b"no HTTP at all\r\n\r\n")
    assert broken.status == 400
    assert broken.headers["Content-Type"] == "application/problem+json"
    until(lambda: "invalid request" in service.log, "its log")
    until(lambda: '"route":"/rest/polls"' in service.log, "the request log")
    waiting = [Connection(url) for _ in range(6)]
    with slow(raw.client, "commitTransaction", 1000):
        for number, connection in enumerate(waiting):
            data = request("POST", place(f"SLOW-{number}"), token=ADMIN, body=POLL)
            connection.send(data)
        service.terminate()
        until(lambda: is_refused(url), "the end of listening")
        answers = [connection.read() for connection in waiting]
    assert [(one.status, one.headers["Connection"]) for one in answers] == [(200, "close")] * 6
    for connection in waiting:
        connection.__exit__()
    assert service.wait() == 0
    assert raw.containers.count_documents({}) == 7


def test_the_workers_of_gunicorn_answer_what_the_kernel_has_accepted(
    services: Services, mongodb_uri: str
) -> None:
    url = start(services, mongodb_uri)
    [service] = services.started
    workers = workers_of(service)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    queued = [Connection(url) for _ in range(50)]
    for connection in queued:
        connection.send(request("GET", place(), token=ADMIN))
    service.terminate()
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    assert [connection.read().status for connection in queued] == [200] * 50
    for connection in queued:
        connection.__exit__()
    assert service.wait() == 0


def test_gunicorn_without_a_mongodb_is_refused_in_a_sentence(services: Services) -> None:
    refused = services.begin(*COMMAND, "service.server.gunicorn:app", module="gunicorn")
    assert refused.wait() == 4
    assert "polls: MONGODB_URI must be set under gunicorn" in refused.log
    assert "Traceback" not in refused.log


def test_gunicorn_with_a_certificate_is_refused_in_a_sentence(
    services: Services, mongodb_uri: str
) -> None:
    certificate = services.home / "certificate.pem"
    certificate.touch()
    refused = services.begin(
        *(*COMMAND, "--certfile", str(certificate), "service.server.gunicorn:app"),
        module="gunicorn",
        MONGODB_URI=mongodb_uri,
        POLLS_SECRET=SECRET,
    )
    assert refused.wait() == 4
    assert "polls: TLS is not supported here; use a proxy." in refused.log
    assert "Traceback" not in refused.log


def test_gunicorn_on_a_store_that_cannot_be_opened_is_refused_in_a_sentence(
    services: Services, mongodb_uri: str
) -> None:
    with pymongo.MongoClient[dict[str, object]](mongodb_uri) as client:
        client.get_default_database().meta.insert_one({"_id": "secret", "check": "another"})
    refused = services.begin(
        *(*COMMAND, "service.server.gunicorn:app"),
        module="gunicorn",
        MONGODB_URI=mongodb_uri,
        POLLS_SECRET=SECRET,
    )
    assert refused.wait() == 4
    assert "polls: This store was created with another POLLS_SECRET" in refused.log
    assert "Traceback" not in refused.log
