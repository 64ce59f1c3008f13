import io
import typing

import pytest
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from service.telemetry.log import RequestLog
from storage.ballots import Ballots
from storage.documents import SessionDocument
from storage.voting import Cast, Vote
from tests.conftest import ADMIN, Client, Clock


@pytest.fixture
async def behind(aiohttp_client: AiohttpClient, settings: Settings) -> Client:
    """A second service on the store of ``api``, whose clock stays at noon."""
    app = create_app(settings, clock=Clock(), request_log=RequestLog(io.BytesIO()))
    headers = {"Authorization": f"Bearer {ADMIN}"}
    other: Client = await aiohttp_client(app, headers=headers)
    return other


@pytest.fixture(params=["a session that is read", "a session that is known"])
def knowledge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a process knows the session of a vote from before, as of when the vote was sent."""
    if request.param == "a session that is read":
        return
    cast = Ballots.cast

    async def cast_knowing(self: Ballots, vote: Vote) -> Cast:
        sessions = self._database.collection("sessions").find({"_id": vote.session_id})
        self._known.keep(typing.cast(list[SessionDocument], await sessions.to_list(None)))
        return await cast(self, vote)

    monkeypatch.setattr(Ballots, "cast", cast_knowing)
