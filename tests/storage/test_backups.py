"""Copies of an embedded store, made as docs/deployment.md says, and services started on them."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import ADMIN
from tests.server.test_kills import VOTERS, Load, make_poll
from tests.support.calls import POLL, call, place
from tests.support.fleet import Service, eventually, recount, service_in
from tests.support.processes import Services
from tests.support.seeds import a_poll

pytestmark = pytest.mark.faults


def vote(url: str, poll_id: str, user_id: int, option: str) -> int:
    path = place(pollId=poll_id, as_user_id=str(user_id)).replace("type=polls", "type=votes")
    return call(url, "POST", path, token=ADMIN, body={"optionIds": [option]}).status


def test_a_copy_of_a_stopped_store_is_the_store(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    made = services.run("token", "create", "--name", "ci", "--user", "7", "--workspace", "PLAT")
    token = made.out.strip()
    poll_id = call(service.url, "POST", place(), token=token, body=POLL).data["id"]
    assert vote(service.url, poll_id, 1, "1") == 200
    assert service.stop() == 0
    backup = services.home / "backup"
    shutil.copytree(services.data_dir, backup)

    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    assert vote(service.url, poll_id, 2, "2") == 200  # the copy will not know of this one
    services.run("token", "revoke", "ci")
    assert service.stop() == 0

    shutil.rmtree(services.data_dir)
    shutil.copytree(backup, services.data_dir)
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    [poll] = call(service.url, "GET", place(expand="results"), token=ADMIN).data
    assert poll["id"] == poll_id
    assert {key: option["votes"] for key, option in poll["results"]["options"].items()} == {
        "1": 1,
        "2": 0,
    }
    # The key of the hashes came along: who had voted has voted, who had not may.
    assert vote(service.url, poll_id, 1, "2") == 409
    assert vote(service.url, poll_id, 2, "2") == 200
    # As the guide warns: what was revoked later is live again.
    assert call(service.url, "GET", place(), token=token).status == 200
    recounted = services.run("recount")
    assert (recounted.status, recounted.err) == (0, "")
    assert recounted.out.endswith(" Differences: 0.\n")


async def test_a_copy_of_one_moment_under_load_holds_every_vote_that_was_answered(
    tmp_path: Path,
) -> None:
    """As a snapshot of the file system takes it: here the server is held still meanwhile."""
    copy = tmp_path / "copy"
    async with service_in(tmp_path / "original") as service:
        load = Load(service, await make_poll(service))
        running = asyncio.create_task(load.run())
        await eventually(lambda: len(load.answered) > 5 * VOTERS)
        server = service.server_pid()
        os.kill(server, signal.SIGSTOP)
        try:
            answered = set(load.answered)
            await asyncio.to_thread(shutil.copytree, tmp_path / "original" / "data", copy / "data")
        finally:
            os.kill(server, signal.SIGCONT)
        load.is_over = True
        await running
    async with service_in(copy) as restored:
        await require_answered(restored, load, answered)


async def require_answered(restored: Service, load: Load, answered: set[int]) -> None:
    """What was answered is there, what was not is there or can be cast, and nothing twice."""
    load.service = restored
    stored = load.stored_choices()
    for user_id in answered:
        assert stored[load.ballot_id(user_id)] == [load.sent[user_id]]
    for user_id in load.sent:
        assert (await load.vote(user_id)).status == 200  # the same key: an answer, or a vote
        other = "2" if load.sent[user_id] == "1" else "1"
        again = await restored.call(
            "POST", "/rest", params=load.poll.votes(user_id), json={"optionIds": [other]}
        )
        assert again.status == 409, (user_id, again)
    load.require_exact()
    made = await restored.call("POST", "/rest", params=load.poll.place, json=a_poll())
    assert made.status == 200
    await recount(restored)
