"""Counting in cells, by several workers, and adding them up."""

from __future__ import annotations

import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd import policies
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Route
from gatewayd.observe import metrics
from gatewayd.observe.metrics import BOUNDS, BUCKETS, RouteTotals, Totals, WorkerMetrics, read
from gatewayd.observe.tokens import OTHER, Verdict

WORKERS = 3


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(metrics.size_bytes(WORKERS)))


def route(slot: int = 1) -> Route:
    made = Route("quotes", lambda exchange: None)
    made.slot = slot
    return made


def over(slot: int | None = 1, status: int = 200, seconds: float = 0.01, **what: object) -> tuple[Exchange, float]:
    """An exchange that is over, and when."""
    exchange = Exchange()
    exchange.started = 500.0
    exchange.status = status
    exchange.route = None if slot is None else route(slot)
    for name, value in what.items():
        setattr(exchange, name, value)
    return exchange, 500.0 + seconds


def count(worker: WorkerMetrics, exchange: Exchange, now: float) -> None:
    worker.record(exchange, now)
    worker.flush()


def totals(memory: memoryview, slots: dict[str, int] | None = None) -> Totals:
    return read(
        memory,
        {"other": 0, "quotes": 1, "last": metrics.ROUTE_ROWS - 1} if slots is None else slots,
        range(3),
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (100, "1xx"),
        (101, "1xx"),
        (200, "2xx"),
        (299, "2xx"),
        (308, "3xx"),
        (404, "4xx"),
        (498, "4xx"),
        (499, "499"),
        (500, "5xx"),
        (599, "5xx"),
        (999, "5xx"),
        (0, "499"),
    ],
)
def test_statuses_fall_into_classes(memory: memoryview, status: int, kind: str) -> None:
    count(WorkerMetrics(memory, 0), *over(status=status))
    counted = dict(zip(metrics.CLASSES, totals(memory).routes["quotes"].classes, strict=True))
    assert {name for name, count in counted.items() if count} == {kind}


def test_an_exchange_is_counted_in_its_routes_row(memory: memoryview) -> None:
    worker = WorkerMetrics(memory, 0)
    count(worker, *over(seconds=0.010, attempts=1, upstream_seconds=0.006, body_received=10, body_sent=541))
    found = totals(memory)
    row = found.routes["quotes"]
    assert (row.attempts, row.retries, row.bytes_in, row.bytes_out) == (1, 0, 10, 541)
    assert (row.total_sum, row.upstream_sum) == pytest.approx((0.010, 0.006))
    assert row.own_sum == pytest.approx(0.004)
    assert bucket(row.total) == 0.01
    assert bucket(row.upstream) == 0.01
    assert bucket(row.own) == 0.005
    assert set(found.routes) == {"quotes"}


def bucket(counts: list[int]) -> float:
    """The bound of the one bucket with a count."""
    assert sum(counts) == 1
    return [*BOUNDS, float("inf")][counts.index(1)]


@given(st.floats(0, 1e6))
def test_each_duration_is_in_the_first_bucket_that_takes_it(seconds: float) -> None:
    memory = memoryview(bytearray(metrics.size_bytes(1)))
    exchange, _ = over()
    exchange.started = 0.0
    count(WorkerMetrics(memory, 0), exchange, seconds)
    found = bucket(read(memory, {"quotes": 1}, [0]).routes["quotes"].total)
    assert seconds <= found
    assert all(seconds > bound for bound in BOUNDS if bound < found)


def test_bounds_are_round_and_ascend() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert (BOUNDS[0], BOUNDS[-1]) == (0.0001, 50.0)
    assert all(len(str(bound)) <= 6 for bound in BOUNDS)


def test_attempts_that_no_target_answered_count_as_attempts(memory: memoryview) -> None:
    worker = WorkerMetrics(memory, 0)
    count(worker, *over(status=502, attempts=3, reason="connect_failed"))
    count(worker, *over(attempts=2, upstream_seconds=0.1, seconds=0.2))
    count(worker, *over(attempts=0))
    row = totals(memory).routes["quotes"]
    assert (row.attempts, row.retries, sum(row.upstream)) == (5, 3, 1)


def test_a_tunnel_counts_with_the_time_of_its_upgrade(memory: memoryview) -> None:
    count(WorkerMetrics(memory, 0), *over(status=101, seconds=86400, attempts=1, upstream_seconds=0.02))
    found = totals(memory)
    assert found.routes["quotes"].total_sum == pytest.approx(0.02)
    assert found.routes["quotes"].own_sum == pytest.approx(0)


def test_what_matched_no_route_has_the_first_row_and_the_last_row_is_usable(memory: memoryview) -> None:
    worker = WorkerMetrics(memory, WORKERS - 1)
    count(worker, *over(slot=None, status=404))
    count(worker, *over(slot=metrics.ROUTE_ROWS - 1))
    assert {name: sum(row.classes) for name, row in totals(memory).routes.items()} == {"other": 1, "last": 1}


def test_a_row_beyond_the_last_is_refused_rather_than_written_to_the_next_worker(memory: memoryview) -> None:
    before = bytes(memory)
    with pytest.raises(IndexError):
        count(WorkerMetrics(memory, 0), *over(slot=metrics.ROUTE_ROWS))
    assert bytes(memory) == before


def test_workers_write_apart_and_are_added_up(memory: memoryview) -> None:
    for number in range(WORKERS):
        worker = WorkerMetrics(memory, number)
        for _ in range(number + 1):
            count(worker, *over(seconds=0.5, body_sent=1))
            worker.count(metrics.CONNECTIONS_ACCEPTED)
            worker.token(metrics.REFUSALS, "route_not_found")
    found = totals(memory)
    assert found.routes["quotes"].classes[1] == found.routes["quotes"].bytes_out == 6
    assert found.sum(metrics.CONNECTIONS_ACCEPTED) == found.tokens[metrics.REFUSALS]["route_not_found"] == 6
    assert sum(found.routes["quotes"].own) == 6
    only = read(memory, {"quotes": 1}, [1])
    assert only.routes["quotes"].classes[1] == only.sum(metrics.CONNECTIONS_ACCEPTED) == 2


def test_memory_too_small_for_a_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="no part for worker 1"):
        WorkerMetrics(memoryview(bytearray(metrics.size_bytes(1))), 1)


def test_a_worker_started_again_goes_on_but_for_gauges(memory: memoryview) -> None:
    first = WorkerMetrics(memory, 0)
    count(first, *over(code="too_many", reason="", verdicts=[("ip", "refused")]))
    first.count(metrics.CONNECTIONS_ACCEPTED, 5)
    for gauge in metrics.GAUGES:
        first.put(gauge, 7)
    second = WorkerMetrics(memory, 0)
    count(second, *over(code="too_many", reason="", verdicts=[("ip", "refused"), ("cors", "observed")]))
    found = totals(memory)
    assert found.routes["quotes"].classes[1] == 2
    assert found.sum(metrics.CONNECTIONS_ACCEPTED) == 5
    assert found.tokens[metrics.REFUSALS] == {"too_many": 2}
    assert found.verdicts == {Verdict("ip", "", "", "refused"): 2, Verdict("cors", "", "", "observed"): 1}
    assert [found.sum(gauge) for gauge in metrics.GAUGES] == [0] * len(metrics.GAUGES)


def test_reasons_are_counted(memory: memoryview) -> None:
    worker = WorkerMetrics(memory, 0)
    count(worker, *over(status=504, reason="first_byte_timeout", code="first_byte_timeout", attempts=1))
    worker.token(metrics.CONNECTIONS_REFUSED, "connections")
    found = totals(memory)
    assert found.tokens[metrics.FAILURES] == {"first_byte_timeout": 1}
    assert found.tokens[metrics.CONNECTIONS_REFUSED] == {"connections": 1}


def test_verdicts_are_counted_by_what_decided_and_in_which_mode_it_did(memory: memoryview) -> None:
    worker = WorkerMetrics(memory, 0)
    worker.name_policies({"fair": ("rate_limit", "observe")})
    count(worker, *over(verdicts=[("fair", "failed")]))
    worker.name_policies({"fair": ("rate_limit", "enforce")})
    count(worker, *over(verdicts=[("fair", "failed"), ("fair", "failed")]))
    assert totals(memory).verdicts == {
        Verdict("fair", "rate_limit", "observe", "failed"): 1,
        Verdict("fair", "rate_limit", "enforce", "failed"): 2,
    }


def test_verdicts_that_find_no_place_are_others(memory: memoryview) -> None:
    worker = WorkerMetrics(memory, 0)
    count(worker, *over(verdicts=[(f"policy-{i}", "refused") for i in range(metrics.TABLES[metrics.VERDICTS] + 4)]))
    found = totals(memory).verdicts
    assert len(found) == metrics.TABLES[metrics.VERDICTS]
    assert found[Verdict("other", "other", "other", "other")] == 5


def test_the_longest_names_are_counted_whole(memory: memoryview) -> None:
    worker = WorkerMetrics(memory, 0)
    name = "a" * 64
    longest = max(policies.ORDER, key=len)
    worker.name_policies({name: (longest, "enforce")})
    count(worker, *over(verdicts=[(name, "revalidated")]))
    assert totals(memory).verdicts == {Verdict(name, longest, "enforce", "revalidated"): 1}


def test_the_first_exchange_and_the_slowest_since_the_last_time_are_exemplars(memory: memoryview) -> None:
    clock = FakeClock()
    worker = WorkerMetrics(memory, 0, clock.monotonic)
    for number, seconds in enumerate((0.01, 0.3, 0.02, 2.5, 0.04)):
        worker.record(*over(seconds=seconds, request_id=b"%d" % number))
    assert totals(memory).exemplars == {}
    worker.flush()
    assert ids(memory) == {"quotes": {"0", "3"}}
    for request_id, slot, seconds in ((b"5", 0, 0.001), (b"6", 1, 0.9), (b"7", 1, 0.8)):
        worker.record(*over(slot=slot, seconds=seconds, request_id=request_id))
        worker.flush()
    assert ids(memory) == {"quotes": {"0", "3"}}
    clock.advance(metrics.EXEMPLARS_EVERY)
    worker.flush()
    assert ids(memory) == {"quotes": {"0", "3", "6"}, "other": {"5"}}


def ids(memory: memoryview) -> dict[str, set[str]]:
    return {route: {each.id for each in found} for route, found in totals(memory).exemplars.items()}


def test_exemplars_of_routes_that_have_no_name_are_left_out(memory: memoryview) -> None:
    count(WorkerMetrics(memory, 0), *over(slot=77, request_id=b"1"))
    assert totals(memory).exemplars == {}


def test_the_largest_of_a_gauge(memory: memoryview) -> None:
    for number in range(WORKERS):
        WorkerMetrics(memory, number).put(metrics.AUDIT_LAG_MILLISECONDS, 10 * number)
    assert totals(memory).most(metrics.AUDIT_LAG_MILLISECONDS) == 20
    assert read(memory, {}, []).most(metrics.AUDIT_LAG_MILLISECONDS) == 0


@pytest.mark.parametrize("table", range(len(metrics.TABLES)))
def test_a_full_table_counts_the_rest_together(memory: memoryview, table: int) -> None:
    worker = WorkerMetrics(memory, 0)
    size = metrics.TABLES[table]
    for i in range(size + 5):
        worker.token(table, f"token-{i}")
    found = totals(memory).tokens
    assert len(found[table]) == size
    assert found[table][OTHER] == 6
    assert set(found[table].values()) == {1, 6}
    assert [len(found[i]) for i in range(len(found)) if i != table] == [0] * (len(found) - 1)
    again = WorkerMetrics(memory, 0)
    again.token(table, "one more")
    again.token(table, "token-0")
    found = totals(memory).tokens
    assert (found[table][OTHER], found[table]["token-0"]) == (7, 2)


def test_nothing_is_read_from_nobody(memory: memoryview) -> None:
    found = read(memory, {"quotes": 1}, [])
    assert (found.routes, found.workers, found.exemplars) == ({}, [], {})
    assert all(not table for table in found.tokens)


def test_a_route_begins_with_nothing() -> None:
    row = RouteTotals()
    assert (sum(row.classes), sum(row.total), sum(row.upstream), sum(row.own)) == (0, 0, 0, 0)
    assert len(row.total) == BUCKETS


def test_only_what_is_counted_in_takes_memory() -> None:
    """128 workers with 4,097 rows each are a quarter of a gigabyte of holes."""
    descriptor = os.memfd_create("cells")
    try:
        os.ftruncate(descriptor, metrics.size_bytes())
        view = memoryview(mmap.mmap(descriptor, metrics.size_bytes()))
        worker = WorkerMetrics(view, 100)
        before = _kibibytes(descriptor)
        for slot in range(1000):
            count(worker, *over(slot=slot))
        read(view, {str(slot): slot for slot in range(1000)}, [100])
        assert 1000 * metrics.ROW * 8 // 1024 <= _kibibytes(descriptor) - before <= 800
    finally:
        os.close(descriptor)


def _kibibytes(descriptor: int) -> int:
    return os.fstat(descriptor).st_blocks // 2


def test_cells_are_aligned() -> None:
    assert metrics.size_bytes(1) % 64 == 0
    assert metrics.ROW * 8 % 64 == 0
    assert metrics._ROWS_AT % 8 == 0
    assert metrics._TABLES_AT[0] >= metrics.COUNTERS
    assert metrics._OWN + BUCKETS <= metrics.ROW
    assert max(metrics.GAUGES) < metrics.COUNTERS
