"""Exemplars in shared memory: the newest of each place, and never half of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Route
from gatewayd.core.trace import Trace
from gatewayd.observe import exemplars
from gatewayd.observe.exemplars import REQUEST, TRACE, Exemplar, Exemplars, read
from gatewayd.observe.metrics import BOUNDS, BUCKETS, ROUTE_ROWS

TRACED = "0af7651916cd43dd8448eb211c80319c"


def empty() -> memoryview:
    return memoryview(bytearray(exemplars.SIZE)).cast("q")


def exchange(slot: int | None = 1, request_id: bytes = b"01ab", trace: Trace | None = None) -> Exchange:
    made = Exchange(request_id=request_id)
    made.upstream_seconds = 0.25
    made.trace = trace
    if slot is not None:
        made.route = Route("quotes", lambda _: None)
        made.route.slot = slot
    return made


def put(memory: memoryview, made: Exchange, total: float = 0.5) -> list[Exemplar]:
    Exemplars(memory, BOUNDS).put(made, total)
    return list(read(memory))


def test_an_exchange_is_found_by_its_request_id(monkeypatch) -> None:
    monkeypatch.setattr(exemplars.time, "time", lambda: 1.8e9)
    assert put(empty(), exchange()) == [Exemplar(1, 1.8e9, 0.5, 0.25, REQUEST, "01ab")]


def test_one_of_a_trace_that_is_exported_by_the_traces() -> None:
    (found,) = put(empty(), exchange(trace=Trace(TRACED, "00f067aa0ba902b7", sampled=True)))
    assert (found.kind, found.id) == (TRACE, TRACED)
    (found,) = put(empty(), exchange(trace=Trace(TRACED, "00f067aa0ba902b7")))
    assert (found.kind, found.id) == (REQUEST, "01ab")


def test_what_matched_no_route_is_in_the_first_row() -> None:
    assert [found.slot for found in put(empty(), exchange(None))] == [0]
    assert [found.slot for found in put(empty(), exchange(ROUTE_ROWS - 1))] == [ROUTE_ROWS - 1]


def test_ids_nobody_can_show_are_left_out() -> None:
    assert put(empty(), exchange(request_id=b"")) == []
    assert put(empty(), exchange(request_id=b"a" * 97)) == []
    (found,) = put(empty(), exchange(request_id=b"a" * 96))
    assert len(found.kind) + len(found.id) <= 128  # OpenMetrics 1.0, "Exemplars"


def test_the_newest_of_a_route_and_bucket_stays() -> None:
    memory = empty()
    put(memory, exchange(request_id=b"old"), 0.5)
    put(memory, exchange(request_id=b"slow"), 5.0)
    put(memory, exchange(request_id=b"another route", slot=2), 0.5)
    assert {found.id for found in put(memory, exchange(request_id=b"new"), 0.45)} == {"new", "slow", "another route"}


def test_a_few_routes_share_no_place() -> None:
    memory = empty()
    for slot in range(8):
        for bound in (*BOUNDS, 100.0):
            put(memory, exchange(slot), bound)
    assert len(list(read(memory))) == 8 * BUCKETS


def test_there_are_only_so_many() -> None:
    memory = empty()
    writer = Exemplars(memory, BOUNDS)
    for slot in range(ROUTE_ROWS):
        writer.put(exchange(slot), BOUNDS[slot % len(BOUNDS)])
    assert len(list(read(memory))) <= exemplars.PLACES


@given(st.integers(0, exemplars.ENTRY - 1), st.integers(1, 255))
def test_an_entry_in_the_making_is_not_read(at: int, change: int) -> None:
    memory = empty()
    put(memory, exchange(slot=0), 1e-5)
    memory.cast("B")[at] ^= change
    assert list(read(memory)) == []
