"""Prometheus metrics: correct counts, and bounded labels."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from service.telemetry.metrics import MAX_SHARED_BYTES, Metrics
from storage.metrics import Histogram
from tests.conftest import ADMIN, Client, Raw
from tests.storage.test_faults import failing
from tests.support.calls import POLL, call, place
from tests.support.casting import content_run, vote
from tests.support.processes import Service, Services, until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Samples:
    """Every sample by its name and labels, as Prometheus itself would read them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Of one sample; 0 where it was never counted."""
    return samples.get((name, frozenset(labels.items())), 0)


async def scrape(api: Client) -> Samples:
    response = await api.get("/metrics", headers={"Authorization": ""})
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(await response.text())


async def test_requests_are_counted_by_route_method_and_status(api: Client) -> None:
    for path in ("/rest?secret-thing=1", "/x1/another", "/healthz", "/nowhere/7"):
        await api.get(path)
    await api.patch("/rest")
    samples = await scrape(api)
    count = "polls_http_requests_total"
    # Each type of the content API is counted at its own path, whichever it was asked at.
    assert value(samples, count, route="/rest/polls", method="GET", status="400") == 2
    assert value(samples, count, route="/healthz", method="GET", status="200") == 1
    assert value(samples, count, route="-", method="GET", status="404") == 1
    assert value(samples, count, route="-", method="PATCH", status="405") == 1
    again = await scrape(api)
    assert value(again, count, route="/metrics", method="GET", status="200") == 1


def test_unknown_methods_are_counted_as_one() -> None:
    metrics = Metrics()
    methods = ("BREW", "WHEN", "PUT")
    metrics.count((0.0, "1", one, None, 405, 1.0, None, None, None, False) for one in methods)
    samples, counted = parse(metrics.render().decode()), "polls_http_requests_total"
    assert value(samples, counted, route="-", method="other", status="405") == 2
    assert value(samples, counted, route="-", method="PUT", status="405") == 1


async def test_the_time_of_requests_is_a_histogram_of_seconds(api: Client) -> None:
    for _ in range(3):
        await api.get("/healthz")
    samples, labels = await scrape(api), {"route": "/healthz", "method": "GET"}
    name = "polls_http_request_duration_seconds"
    assert value(samples, f"{name}_count", **labels) == 3
    assert 0 < value(samples, f"{name}_sum", **labels) < 5
    assert value(samples, f"{name}_bucket", le="+Inf", **labels) == 3
    tops = [
        (float(dict(sample)["le"]), count)
        for (one, sample), count in samples.items()
        if one == f"{name}_bucket" and labels.items() <= dict(sample).items()
    ]
    counts = [count for _, count in sorted(tops)]
    assert len(counts) == 13
    assert counts == sorted(counts)


def test_a_value_counts_for_the_first_bound_it_does_not_exceed() -> None:
    histogram = Histogram((1, 2, 5))
    for one in (0.5, 1, 1.5, 5, 6, 7):
        histogram.observe(one)
    assert histogram.counts == [2, 1, 1, 2]
    assert histogram.total == 21


async def test_votes_are_counted_by_what_came_of_them(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    for user_id, option, status in ((1, "1", 200), (1, "2", 409), (2, "9", 400), (3, "2", 200)):
        response = await vote(api, run, option, acting=user_id)
        assert response.status == status
    await api.delete("/rest", params={**run.votes, "as_user_id": "9"})
    samples = await scrape(api)
    outcomes = {
        dict(labels)["outcome"]: count
        for (name, labels), count in samples.items()
        if name == "polls_votes_total"
    }
    assert outcomes == {"accepted": 2, "already_voted": 1, "invalid": 1, "no_vote": 1}


async def test_batches_show_their_sizes_and_waits(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    before = await scrape(api)
    await asyncio.gather(*(vote(api, run, "1", acting=user_id) for user_id in range(1, 9)))
    after = await scrape(api)
    for name in ("polls_batch_size", "polls_batch_wait_seconds"):
        grown = value(after, f"{name}_count", kind="casts") - value(
            before, f"{name}_count", kind="casts"
        )
        assert 1 <= grown <= 8
    items = "polls_batch_size_sum"
    assert value(after, items, kind="casts") - value(before, items, kind="casts") == 8


async def test_failures_of_the_database_are_counted_by_kind(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    before = await scrape(api)
    with failing(
        raw, ["find"], {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}, 1
    ):
        await vote(api, run, "1", acting=1)
    after = await scrape(api)
    errors = {"name": "polls_database_errors_total", "kind": "transient"}
    assert value(after, **errors) > value(before, **errors)


async def test_requests_in_flight_are_those_without_an_answer(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    assert value(await scrape(api), "polls_http_requests_in_flight") == 1  # the asking one
    with failing(raw, ["find"], {"blockConnection": True, "blockTimeMS": 500}):
        casting = [asyncio.create_task(vote(api, run, "1", acting=user_id)) for user_id in (1, 2)]
        samples: Samples = {}
        while value(samples, "polls_http_requests_in_flight") < 3 and not casting[0].done():
            samples = await scrape(api)
        assert value(samples, "polls_http_requests_in_flight") == 3
    await asyncio.gather(*casting)
    assert value(await scrape(api), "polls_http_requests_in_flight") == 1


async def test_no_label_holds_what_a_caller_sent(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    secrets = ["another-token", "PATH-7", "caller-id", run.poll_id]
    await api.get("/rest/PATH-7", headers={"X-Request-Id": "caller-id"})
    await api.get("/healthz", params={"token": "another-token"})
    await vote(api, run, "1", acting=1)
    text = await (await api.get("/metrics")).text()
    for secret in [*secrets, ADMIN]:
        assert secret not in text
    assert re.search(
        r'^polls_build_info{python="3\.\d+\.\d+",version="[^"]+"} 1\.0$', text, re.MULTILINE
    )


def test_requests_are_counted_even_if_they_are_not_logged(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_LOG_LEVEL="warning")
    call(service.url, "GET", place(), token=ADMIN)
    samples = parse(call(service.url, "GET", "/metrics").body.decode())
    labels = {"route": "/rest/polls", "method": "GET", "status": "200"}
    assert value(samples, "polls_http_requests_total", **labels)
    assert not [line for line in service.log_lines if line.get("event") == "request"]


@pytest.fixture
def crew(services: Services) -> Service:
    return services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS="2")


def test_any_worker_reports_for_all_of_them(crew: Service) -> None:
    for _ in range(20):  # each over a connection of its own, so that both workers have some
        call(crew.url, "POST", place(), token=ADMIN, body=POLL)

    def posts() -> float:
        samples = parse(call(crew.url, "GET", "/metrics").body.decode())
        labels = {"route": "/rest/polls", "method": "POST", "status": "200"}
        return value(samples, "polls_http_requests_total", **labels)

    for _ in range(10):
        until(lambda: posts() == 20, "20 requests, whoever is asked")


FOREIGN = {
    "another program.json": b"{}",
    "-1.json": b"[0, {}]",
    "0.json": b"[7, {}]",
    "1.json": b"[7, 8, 9]",
    "2.json": b"",
    "3.json": b"\x00garbage",
    "4.json": b'[0, {"polls_votes": 1}]',
    "5.json": b'[0, {"polls_votes": [[["accepted"], ["many"]]]}]',
    "6.json": b'[0, {"polls_votes": [[["accepted", "twice"], [1]]]}]',
    "7.json": b'[0, {"polls_batch_size": [[["casts"], [1, 2]]]}]',
    "8.json": b'[null, {"polls_votes": [[["accepted"], [1]]]}]',
    "99999999999999999999.json": b'[5, {"polls_votes": [[["accepted"], [100]]]}]',
}


def test_files_of_others_among_the_metrics_are_left_out_and_named_once(tmp_path: Path) -> None:
    for name, content in FOREIGN.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "9.json").mkdir()
    os.mkfifo(tmp_path / "10.json")
    with (tmp_path / "11.json").open("wb") as huge:
        huge.truncate(MAX_SHARED_BYTES + 1)
    os.mkfifo(tmp_path / f"{os.getpid()}.new")
    of_another_version = {"polls_votes": [[["accepted"], [3]]], "polls_something_else": 1}
    (tmp_path / f"{os.getppid()}.json").write_bytes(orjson.dumps([2, of_another_version]))
    metrics = Metrics(tmp_path)
    metrics.votes["accepted"] = 4
    metrics.share()
    assert (tmp_path / f"{os.getpid()}.json").is_file()
    with capture_logs() as events:
        for _ in range(2):
            samples = parse(metrics.render().decode())
    assert value(samples, "polls_votes_total", outcome="accepted") == 4 + 3 + 100
    assert value(samples, "polls_http_requests_in_flight") == 2
    left_out = {*FOREIGN, "9.json", "10.json", "11.json"} - {
        "-1.json",
        "0.json",
        "99999999999999999999.json",
    }
    assert sorted(event["file"] for event in events) == sorted(left_out)


def test_a_directory_of_metrics_that_is_gone_costs_the_numbers_of_the_others(
    tmp_path: Path,
) -> None:
    metrics = Metrics(tmp_path / "gone")
    metrics.votes["accepted"] = 4
    with capture_logs() as events:
        metrics.share()
    assert [event["event"] for event in events] == ["metrics not shared with other workers"]
    samples = parse(metrics.render().decode())
    assert value(samples, "polls_votes_total", outcome="accepted") == 4


async def test_numbers_of_a_dead_worker_stay_except_its_requests_in_flight(
    tmp_path: Any,
) -> None:
    died = Metrics(tmp_path)
    died.in_flight = 5
    died.count([(0.0, "1", "GET", "/rest/polls", 200, 2.0, None, None, None, False)])
    died.share()
    [figures] = tmp_path.glob("*.json")
    figures.rename(tmp_path / "4194305.json")  # above the highest id that a process can have
    living = Metrics(tmp_path)
    living.in_flight = 1
    samples = parse(living.render().decode())
    assert value(samples, "polls_http_requests_in_flight") == 1
    assert (
        value(samples, "polls_http_requests_total", route="/rest/polls", method="GET", status="200")
        == 1
    )
