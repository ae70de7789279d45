"""The exporter of spans, against a server: what arrives, what is tried again, what is given up, where it goes on."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest

from gatewayd import __version__
from gatewayd.collect.otlp import FIRST_PAUSE, LONGEST_PAUSE, TraceExporter
from gatewayd.collect.store import Store, StoreError
from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from tests.support.side_server import SideServer

from .sampled_calls import WALL, add, open_store
from .test_spans import read_by_the_schema, said

TRACES = "/v1/traces"


@pytest.fixture
def store(tmp_path):
    """One without calls."""
    made = open_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def collector():
    """A server that takes everything."""
    with SideServer({TRACES: {}}) as server:
        yield server


class Stopped(Exception):
    """The exporter's wait, where a test ends it."""


class Bench:
    """An exporter with a clock of its own. `turns` runs its loop so often and gives what it waited."""

    def __init__(self, store: Store | None, url: str, **options: Any) -> None:
        self.clock = FakeClock(wall=WALL + 1)
        self.store = store
        self.document = decode({"gateway": {"state_dir": "/state"}, "tracing": {"url": url, **options}})

    def exporter(self, wait: Callable[[float], Any] = asyncio.sleep) -> TraceExporter:
        return TraceExporter(lambda: self.store, self.clock, wait)

    def turns(self, count: int = 1, between: Callable[[], None] = lambda: None) -> tuple[TraceExporter, list[float]]:
        """So many turns, one behind the other."""

        async def run() -> tuple[TraceExporter, list[float]]:
            pauses: list[float] = []
            over = asyncio.Event()

            async def wait(seconds: float) -> None:
                pauses.append(seconds)
                between()
                if len(pauses) == count:
                    over.set()
                    await asyncio.Event().wait()

            exporter = self.exporter(wait)
            await exporter.apply(self.document)
            await asyncio.wait_for(over.wait(), 20)
            await exporter.close()
            return exporter, pauses

        return asyncio.run(run())


def received(server: SideServer) -> list[list[Any]]:
    """The spans of each request, as the schema reads them."""
    found = []
    for asked in server.asked:
        assert (asked.method, asked.path) == ("POST", TRACES)
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["content-encoding"] == "gzip"
        (resource,) = read_by_the_schema(gzip.decompress(asked.body)).resource_spans
        found.append(list(resource.scope_spans[0].spans))
    return found


def names(server: SideServer) -> list[list[str]]:
    """Request ids of each request's calls."""
    ids = [[said(span.attributes).get("gatewayd.request_id") for span in spans] for spans in received(server)]
    return [[each for each in request if each] for request in ids]


def metrics(exporter: TraceExporter) -> dict[str, float]:
    """What it shows, by name and reason."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in exporter.families()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_a_sampled_call_arrives_as_the_schema_has_it(store, collector):
    add(store, "calls-0", 1, sampled=False)
    add(store, "calls-0", 2)
    exporter, pauses = Bench(store, collector.url("/"), headers={"Authorization": "Bearer x"}).turns()
    (spans,) = received(collector)
    assert [span.name for span in spans] == ["GET /v1/quotes/{id}", "GET"]
    (asked,) = collector.asked
    assert (asked.headers["authorization"], asked.headers["user-agent"]) == ("Bearer x", f"gatewayd/{__version__}")
    assert exporter.sent == 2
    assert pauses == [5.0]


def test_who_sends_them(store, collector):
    add(store, "calls-0", 1)
    options = {"service_name": "edge", "attributes": {"deployment.environment.name": "test"}}
    Bench(store, collector.url(), **options).turns()
    Bench(store, collector.url()).turns()
    add(store, "calls-0", 2)
    Bench(store, collector.url()).turns()
    one, other = (
        said(read_by_the_schema(gzip.decompress(asked.body)).resource_spans[0].resource.attributes)
        for asked in collector.asked
    )
    assert (one["service.name"], other["service.name"]) == ("edge", "gatewayd")
    assert one["deployment.environment.name"] == "test"
    assert one["service.version"] == __version__
    assert one["service.instance.id"] == other["service.instance.id"]
    assert one["host.name"]


def test_batches_follow_each_other_without_a_pause_and_a_restart_goes_on(store, collector):
    for number in range(1, 6):
        add(store, "calls-0", number, request_id=f"r{number}")
    bench = Bench(store, collector.url(), batch=2)
    _, pauses = bench.turns(2)
    assert names(collector) == [["r1", "r2"], ["r3", "r4"]]
    assert pauses == [0.0, 0.0]
    _, pauses = bench.turns(2)
    assert names(collector)[2:] == [["r5"]]
    assert pauses == [5.0, 5.0]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_tried_again_is(store, collector, status):
    add(store, "calls-0", 1)
    collector.answers[TRACES] = (status, {}, b"")

    def mend() -> None:
        if len(collector.asked) == 3:
            collector.answers[TRACES] = {}

    exporter, pauses = Bench(store, collector.url()).turns(4, mend)
    assert len(collector.asked) == 4
    assert len({asked.body for asked in collector.asked}) == 1
    assert [2**at * FIRST_PAUSE / 2 <= pause <= 2**at * FIRST_PAUSE for at, pause in enumerate(pauses[:3])] == [
        True
    ] * 3
    assert pauses[3] == 5.0
    assert (exporter.sent, exporter.failures, exporter.dropped["refused"]) == (2, {str(status): 3}, 0)


def test_pauses_grow_to_a_bound(store):
    exporter = Bench(store, "").exporter()
    pauses = [exporter._pause() for _ in range(60)]
    assert LONGEST_PAUSE / 2 <= max(pauses) <= LONGEST_PAUSE
    assert min(pauses[10:]) >= LONGEST_PAUSE / 2


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86400", 3600.0),
        ("Fri, 15 Jan 2027 08:00:31 GMT", 29.75),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
    ],
)
def test_when_to_come_back_the_collector_says(store, collector, value, pause):
    add(store, "calls-0", 1)
    collector.answers[TRACES] = (503, {"Retry-After": value}, b"")
    assert Bench(store, collector.url()).turns()[1] == [pause]


def test_a_retry_after_nobody_can_read_is_none(store, collector):
    add(store, "calls-0", 1)
    collector.answers[TRACES] = (503, {"Retry-After": "soon"}, b"")
    (pause,) = Bench(store, collector.url()).turns()[1]
    assert FIRST_PAUSE / 2 <= pause <= FIRST_PAUSE


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 302])
def test_what_is_refused_for_good_is_left_out_and_counted(store, collector, caplog, status):
    add(store, "calls-0", 1)
    collector.answers[TRACES] = (status, {}, b"no")
    exporter, _ = Bench(store, collector.url(), headers={"Authorization": "Bearer secret"}).turns(3)
    assert len(collector.asked) == 1
    assert (exporter.sent, exporter.dropped["refused"], exporter.failures) == (0, 1, {str(status): 1})
    assert f"refuses spans: {status}" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("count", [1, "1"])
def test_what_is_thrown_away_in_part_is_counted_and_not_sent_again(store, collector, count):
    add(store, "calls-0", 1)
    collector.answers[TRACES] = {"partialSuccess": {"rejectedSpans": count, "errorMessage": "too odd"}, "more": 1}
    exporter, _ = Bench(store, collector.url()).turns(2)
    assert (exporter.sent, exporter.rejected, len(collector.asked)) == (1, 1, 1)


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"partialSuccess": {"rejectedSpans": "many"}}', b"\x0a\x00"])
def test_an_answer_nobody_can_read_is_a_good_one_if_its_status_is(store, collector, answer):
    add(store, "calls-0", 1)
    collector.answers[TRACES] = (200, {}, answer)
    exporter, _ = Bench(store, collector.url()).turns()
    assert (exporter.sent, exporter.rejected) == (2, 0)


def test_a_collector_that_is_not_there_is_waited_for(store):
    add(store, "calls-0", 1)
    with SideServer() as gone:
        url = gone.url()
    exporter, pauses = Bench(store, url).turns(2)
    assert exporter.failures == {"connect_failed": 2}
    assert exporter.oldest == WALL
    assert metrics(exporter)["gatewayd_trace_lag_seconds"] == 1.0
    assert pauses[0] < pauses[1]


def test_a_collector_that_does_not_answer_is_given_up_for_now(store, collector):
    add(store, "calls-0", 1)
    collector.gate.clear()
    exporter, _ = Bench(store, collector.url(), timeout=0.05).turns()
    assert exporter.failures == {"timeout": 1}
    assert exporter.sent == 0


def test_what_is_too_old_is_left_out_and_counted(store, collector):
    add(store, "calls-0", 1, at=WALL - 3600, request_id="old")
    add(store, "calls-0", 2, at=WALL - 3598, request_id="new")
    exporter, _ = Bench(store, collector.url()).turns()
    assert names(collector) == [["new"]]
    assert exporter.dropped == {"too_old": 1}


def test_what_was_erased_while_it_waited_does_not_leave(store, collector):
    add(store, "calls-0", 1)
    collector.answers[TRACES] = (503, {}, b"")

    def erase() -> None:
        collector.answers[TRACES] = {}
        with store.cursor() as cursor:
            cursor.execute("UPDATE calls SET client = NULL, agent = NULL")

    Bench(store, collector.url()).turns(2, erase)
    first, second = (said(spans[0].attributes) for spans in received(collector))
    assert "client.address" in first
    assert not {"client.address", "user_agent.original"} & second.keys()


def test_before_there_is_a_store_it_waits(collector):
    exporter, pauses = Bench(None, collector.url(), interval="2s").turns(2)
    assert pauses == [2.0, 2.0]
    assert collector.asked == []
    assert exporter.failures == {}


def test_a_store_that_cannot_be_opened_does_not_end_it(tmp_path, collector, caplog):
    exporter, pauses = Bench(Store(None), collector.url()).turns(2)
    assert exporter.failures == {"store": 2}
    assert StoreError.__name__ in caplog.text
    assert pauses[0] < pauses[1]


def test_what_it_shows(store, collector):
    add(store, "calls-0", 1)
    exporter, _ = Bench(store, collector.url()).turns()
    assert metrics(exporter) == {
        "gatewayd_trace_spans_sent_total": 2,
        "gatewayd_trace_spans_rejected_total": 0,
        "gatewayd_trace_calls_dropped_total refused": 0,
        "gatewayd_trace_calls_dropped_total too_old": 0,
        "gatewayd_trace_lag_seconds": 0,
    }


def test_as_a_part_it_answers_nothing_and_shows_nothing_while_it_is_off(store):
    async def run() -> None:
        exporter = Bench(store, "").exporter()
        await exporter.apply(decode({}))
        assert (list(exporter.routes()), exporter.operations(), list(exporter.families())) == ([], {}, [])
        await exporter.close()

    asyncio.run(run())


def test_another_generation_takes_over_and_the_same_changes_nothing(store, collector):
    async def run() -> None:
        bench = Bench(store, collector.url())
        asked: list[float] = []
        turned = asyncio.Event()

        async def wait(seconds: float) -> None:
            asked.append(seconds)
            turned.set()
            await asyncio.Event().wait()

        async def turn() -> None:
            await asyncio.wait_for(turned.wait(), 20)
            turned.clear()

        exporter = bench.exporter(wait)
        await exporter.apply(bench.document)
        await turn()
        await exporter.apply(bench.document)
        await exporter.apply(
            decode({"gateway": {"state_dir": "/state"}, "tracing": {"url": collector.url(), "interval": 9}})
        )
        await turn()
        assert asked == [5.0, 9.0]
        await exporter.apply(decode({}))
        assert list(exporter.families()) == []
        await exporter.close()

    asyncio.run(run())
