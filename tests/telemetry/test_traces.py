"""Traces: the content of spans, and that a failing collector does not affect requests."""

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.routes import ROUTES
from service.settings import InvalidSetting, Settings, read_settings
from service.telemetry import spans
from storage.errors import StartupRefused
from tests.conftest import ADMIN, Client
from tests.support.calls import POLL, call, place
from tests.support.processes import ROOT, Services
from tests.support.seeds import ISSUE, a_poll

TOKEN = {"Authorization": f"Bearer {ADMIN}"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans as OTLP over HTTP, and keeps them."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.paths.append(self.path)
                collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    @property
    def spans(self) -> list[Span]:
        """All of them, in the order in which they began."""
        found = [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    @property
    def service_names(self) -> set[str]:
        return {
            attribute.value.string_value
            for request in self.requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


def attributes_of(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, str(kind))
        if kind == "array_value":
            value = [one.string_value for one in value.values]
        found[attribute.key] = value
    return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


Traced = Callable[..., Any]


@pytest.fixture
def traced(
    aiohttp_client: AiohttpClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Traced:
    """``async with traced(url) as client``: a service that exports there, and has when it ends."""

    @asynccontextmanager
    async def trace(url: str, **variables: str) -> AsyncIterator[Client]:
        for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **variables}.items():
            monkeypatch.setenv(name, value)
        client: Client = await aiohttp_client(create_app(replace(settings, traces=True)))
        yield client
        await client.close()

    return trace


async def test_a_span_says_what_a_request_was_and_how_it_ended(
    collector: Collector, traced: Traced
) -> None:
    async with traced(collector.url) as client:
        made = await client.post("/rest", params=ISSUE, json=a_poll(), headers=TOKEN)
        poll_id = (await made.json())["id"]
        answers = [
            made,
            await client.get(f"/api/v1/polls/{poll_id}", headers=TOKEN),
            await client.get("/api/v1/polls/999", headers=TOKEN),
            await client.get("/nowhere/7"),
            await client.request("PURGE", "/rest", headers=TOKEN),
            await client.get("/healthz", headers={"X-Request-Id": "seven"}),
        ]
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.service_names == {"polls"}
    expected = [
        ("POST /rest/polls", "POST", "/rest/polls", 200),
        ("GET /api/v1/polls/{poll_id}", "GET", "/api/v1/polls/{poll_id}", 200),
        ("GET /api/v1/polls/{poll_id}", "GET", "/api/v1/polls/{poll_id}", 404),
        ("GET", "GET", None, 404),
        ("HTTP", "_OTHER", None, 405),
        ("GET /healthz", "GET", "/healthz", 200),
    ]
    for span, answer, (name, method, route, status) in zip(
        collector.spans, answers, expected, strict=True
    ):
        assert answer.status == status
        assert span.name == name
        assert span.kind == Span.SPAN_KIND_SERVER
        assert span.status.code == Status.STATUS_CODE_UNSET
        assert not span.parent_span_id
        attributes = attributes_of(span)
        assert attributes.pop("http.route", None) == route
        assert attributes == {
            "http.request.method": method,
            "http.response.status_code": status,
            "url.scheme": "http",
            "network.protocol.version": "1.1",
            "http.response.header.x-request-id": [answer.headers["X-Request-Id"]],
        }
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 5e9
    assert len({span.trace_id for span in collector.spans}) == len(expected)


async def test_nothing_of_the_caller_or_of_what_was_sent_is_in_a_span(
    collector: Collector, traced: Traced
) -> None:
    async with traced(collector.url) as client:
        made = await client.post("/rest", params=ISSUE, json=a_poll(), headers=TOKEN)
        poll_id = (await made.json())["id"]
        votes = {**ISSUE, "type": "votes", "pollId": poll_id, "as_user_id": "987654321"}
        body = {"optionIds": ["1"]}
        for token in ({"token": ADMIN}, {"access_token": ADMIN}, {"token": "bad-secret"}):
            await client.post("/rest", params={**votes, **token}, json=body)
            await client.get(f"/api/v1/polls/{poll_id}", params=token)
            await client.get(f"/api/v1/users/{ADMIN}", params=token)
            await client.get(f"/{ADMIN}", params=token)
    sent = b"".join(collector.bodies)
    assert len(collector.spans) == 13
    for hidden in (ADMIN, "bad-secret", poll_id, "987654321", "PLAT", "127.0.0.1", "POLLS_ADMIN"):
        assert hidden.encode() not in sent


async def test_a_span_belongs_to_the_trace_of_its_caller(
    collector: Collector, traced: Traced
) -> None:
    async with traced(collector.url) as client:
        for parent in (f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00", "no trace"):
            assert (await client.get("/healthz", headers={"traceparent": parent})).status == 200
    # The second caller has said that its trace is not sampled.
    first, last = collector.spans
    assert first.trace_id.hex() == TRACE
    assert first.parent_span_id.hex() == PARENT
    assert last.trace_id.hex() != TRACE
    assert not last.parent_span_id


async def test_the_span_of_a_vote_without_a_name_does_not_lead_to_its_caller(
    collector: Collector, traced: Traced
) -> None:
    sent = {**TOKEN, "traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "id-of-a-voter"}
    async with traced(collector.url) as client:
        for saves in (False, True):
            body = a_poll(settings={"saveParticipantNames": saves})
            made = await client.post("/rest", params=ISSUE, json=body, headers=TOKEN)
            poll_id = (await made.json())["id"]
            votes = {**ISSUE, "type": "votes", "pollId": poll_id}
            chosen = {"optionIds": [(await made.json())["options"][0]["id"]]}
            cast = await client.post("/rest", params=votes, json=chosen, headers=sent)
            assert (cast.status, cast.headers["X-Request-Id"]) == (200, "id-of-a-voter")
    unnamed, named = (span for span in collector.spans if span.name == "POST /rest/votes")
    assert (named.trace_id.hex(), named.parent_span_id.hex()) == (TRACE, PARENT)
    assert (unnamed.trace_id.hex() == TRACE, unnamed.parent_span_id) == (False, b"")
    header = "http.response.header.x-request-id"
    assert attributes_of(named)[header] == ["id-of-a-voter"]
    assert attributes_of(unnamed)[header] != ["id-of-a-voter"]


async def test_a_fault_of_ours_is_an_error_of_the_span(
    collector: Collector, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Any) -> Any:
        raise RuntimeError("the secret reason")

    monkeypatch.setitem(ROUTES["/healthz"], "GET", fail)
    async with traced(collector.url) as client:
        assert (await client.get("/healthz")).status == 500
    (span,) = collector.spans
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(span)["error.type"] == "500"
    assert attributes_of(span)["http.response.status_code"] == 500
    assert not span.events
    assert b"secret" not in b"".join(collector.bodies)


async def test_the_standard_variables_name_the_service_and_choose_what_is_sampled(
    collector: Collector, traced: Traced
) -> None:
    async with traced(collector.url, OTEL_SERVICE_NAME="ours") as client:
        await client.get("/healthz")
    assert collector.service_names == {"ours"}
    async with traced(collector.url, OTEL_TRACES_SAMPLER="always_off") as client:
        await client.get("/healthz")
    assert len(collector.spans) == 1


@pytest.mark.parametrize("collector_is", ["away", "silent"])
async def test_a_collector_that_fails_harms_no_request_and_no_stop(
    traced: Traced, collector_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "FLUSH_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if collector_is == "away":
            listening.close()
        small = {"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}
        async with traced(url, **small) as client:
            for _ in range(20):
                assert (await client.get("/rest", params=ISSUE, headers=TOKEN)).status == 200
            begun = time.monotonic()
        assert time.monotonic() - begun < 3


def test_the_last_spans_are_exported_at_the_stop(collector: Collector, services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    for _ in range(3):
        assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    assert not collector.bodies
    assert service.stop() == 0
    assert [span.name for span in collector.spans] == ["POST /rest/polls"] * 3


def test_nothing_of_it_is_imported_unless_it_is_asked_for(services: Services) -> None:
    """PYTHONPROFILEIMPORTTIME logs every import of a running service."""
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, PYTHONPROFILEIMPORTTIME="1")
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    assert service.stop() == 0
    imported = [line.rpartition("|")[2].strip() for line in service.log.splitlines()]
    assert "service.app" in imported
    assert "service.telemetry.tracing" in imported
    unwanted = ("opentelemetry", "service.telemetry.spans")
    assert not [name for name in imported if name.startswith(unwanted)]


def test_without_the_extra_a_start_that_asks_for_traces_is_refused(services: Services) -> None:
    missing = services.home / "missing"
    (missing / "opentelemetry").mkdir(parents=True)
    (missing / "opentelemetry" / "__init__.py").write_text(
        "raise ModuleNotFoundError('No module named opentelemetry', name='opentelemetry')\n"
    )
    path = f"{missing}:{ROOT}"
    refused_start = services.run(PYTHONPATH=path, OTEL_TRACES_EXPORTER="otlp")
    assert refused_start.status == 1
    assert "pip install --editable '.[tracing]'. " in refused_start.sentence
    assert "OTEL_TRACES_EXPORTER=none" in refused_start.sentence
    assert not services.data_dir.exists()


async def test_what_opentelemetry_cannot_use_is_refused_in_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999")
    runner = web.AppRunner(create_app(replace(settings, traces=True)))
    with pytest.raises(StartupRefused, match=r"^OpenTelemetry does not accept its variables: "):
        await runner.setup()
    await runner.cleanup()


ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
EXPORTER = "OTEL_TRACES_EXPORTER"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"


@pytest.mark.parametrize(
    ("variables", "are_wanted"),
    [
        ({}, False),
        ({ENDPOINT: "http://c:4318"}, True),
        ({TRACES_ENDPOINT: "http://c:4318/v1/traces"}, True),
        ({EXPORTER: "otlp"}, True),
        ({EXPORTER: "none", ENDPOINT: "http://c:4318"}, False),
        ({EXPORTER: "", ENDPOINT: ""}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({ENDPOINT: "http://c:4318", PROTOCOL: "http/protobuf"}, True),
        ({EXPORTER: "otlp", TRACES_PROTOCOL: "http/protobuf", PROTOCOL: "grpc"}, True),
        ({PROTOCOL: "grpc", "OTEL_SERVICE_NAME": "polls"}, False),
    ],
)
def test_the_standard_variables_ask_for_traces(variables: dict[str, str], are_wanted: bool) -> None:
    assert read_settings(variables).traces is are_wanted


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({EXPORTER: "zipkin"}, f"^{EXPORTER} must be otlp or none, not 'zipkin'"),
        ({EXPORTER: "otlp", PROTOCOL: "grpc"}, f"^{PROTOCOL} must be http/protobuf, not 'grpc'"),
        ({ENDPOINT: "http://c", TRACES_PROTOCOL: "http/json"}, f"^{TRACES_PROTOCOL} must be "),
    ],
)
def test_traces_in_another_way_are_refused(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSetting, match=sentence):
        read_settings(variables)
