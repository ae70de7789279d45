from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.collect import stats
from gatewayd.collect.filters import Filters
from gatewayd.collect.sketch import bin_of, upper_bound
from gatewayd.collect.sources import series_of, source_of
from gatewayd.collect.stats import ORDERS, Measures, compare, series, top
from tests.support.calls import NOON, call, empty, erased, fill, store_in

S = 1_000_000
T = NOON * S
ALL = Filters()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    yield store
    store.close()


@pytest.fixture
def store(made):
    return empty(made)


def calls(seed=1, count=300):
    """Calls within ten minutes of noon, of three routes."""
    chance = random.Random(seed)
    return [
        call(
            number,
            at=NOON + chance.randrange(600),
            route=chance.choice(["quotes", "policies", "claims"]),
            consumer=chance.choice(["acme", "zeta"]),
            status=chance.choice([200, 200, 200, 404, 429, 500, 503]),
            code=chance.choice(["", "", "rate_limited"]),
            total_us=int(math.exp(chance.uniform(3, 14))),
            upstream_us=chance.randrange(100),
            bytes_in=chance.randrange(1000),
            bytes_out=chance.randrange(100_000),
        )
        for number in range(1, count + 1)
    ]


def nearest(values, share):
    return sorted(values)[math.ceil(share * len(values)) - 1]


def counted(rows, seconds, *, exact):
    """What `Measures` are to say of calls, in Python."""
    latencies = [row["total_us"] for row in rows]
    if not exact:
        latencies = [upper_bound(bin_of(each)) for each in latencies]
    if not rows:
        return Measures()
    return Measures(
        calls=len(rows),
        per_second=len(rows) / seconds,
        errors=sum(row["status"] >= 500 for row in rows),
        error_rate=sum(row["status"] >= 500 for row in rows) / len(rows),
        client_errors=sum(400 <= row["status"] < 500 for row in rows),
        refused=sum(row["code"] != "" for row in rows),
        bytes_in=sum(row["bytes_in"] for row in rows),
        bytes_out=sum(row["bytes_out"] for row in rows),
        mean_us=sum(row["total_us"] for row in rows) // len(rows),
        upstream_mean_us=sum(row["upstream_us"] for row in rows) // len(rows),
        p50_us=nearest(latencies, 0.5),
        p90_us=nearest(latencies, 0.9),
        p99_us=nearest(latencies, 0.99),
    )


def asked(cursor, by="", order="calls", limit=10, filters=ALL, begin=T, end=T + 600 * S, exact=False):
    source = source_of(cursor, filters, begin, end, by, exact=exact)
    return top(cursor, source, by, order, limit)


@pytest.mark.parametrize("few", [stats.FEW, 1])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("by", ["route", "status", "consumer"])
def test_figures_are_what_python_counts(store, monkeypatch, by, exact, few):
    monkeypatch.setattr(stats, "FEW", few)
    rows = calls()
    fill(store, rows, closed=NOON + 400)
    with store.cursor() as cursor:
        found = asked(cursor, by, exact=exact)
    keys = sorted({row[by] for row in rows}, key=lambda key: (-sum(row[by] == key for row in rows), str(key)))
    assert [row.key for row in found.rows] == [str(key) for key in keys]
    for key, row in zip(keys, found.rows, strict=True):
        assert row.measures == counted([each for each in rows if each[by] == key], 600, exact=exact)
    assert found.total == counted(rows, 600, exact=exact)


@settings(max_examples=10, deadline=None)
@given(latencies=st.lists(st.integers(0, 2**41), min_size=1, max_size=30))
def test_percentiles_are_nearest_ranks(made, latencies):
    store = empty(made)
    fill(store, [call(number, at=NOON, total_us=us) for number, us in enumerate(latencies)])
    with store.cursor() as cursor:
        exact, sketched = asked(cursor, exact=True).total, asked(cursor).total
    assert [exact.p50_us, exact.p90_us, exact.p99_us] == [nearest(latencies, share) for share in (0.5, 0.9, 0.99)]
    capped = [min(each, 2**40 - 1) for each in (exact.p50_us, exact.p90_us, exact.p99_us)]
    for true, found in zip(capped, (sketched.p50_us, sketched.p90_us, sketched.p99_us), strict=True):
        assert true <= found <= true * 17 / 16


def measure_of(order):
    names = {"mean": "mean_us", "latency": "p99_us", "p50": "p50_us", "p90": "p90_us", "p99": "p99_us"}
    if order == "bytes":
        return lambda found: found.bytes_in + found.bytes_out
    return lambda found: getattr(found, names.get(order, order))


@pytest.mark.parametrize("order", ORDERS)
def test_keys_are_ranked(store, order):
    fill(store, calls(2))
    with store.cursor() as cursor:
        found = asked(cursor, "status", order)
        values = [measure_of(order)(row.measures) for row in found.rows]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) > 1
        first = asked(cursor, "status", order, limit=2)
    assert first.rows == found.rows[:2]
    assert first.total == found.total


def test_what_was_erased_is_no_client(store):
    fill(store, [call(1, client="192.0.2.1"), erased(call(2)), call(3, client="")])
    with store.cursor() as cursor:
        found = asked(cursor, "client")
    assert [(row.key, row.measures.calls) for row in found.rows] == [("", 2), ("192.0.2.1", 1)]


def test_without_calls_there_are_no_figures(store):
    with store.cursor() as cursor:
        assert asked(cursor, "route") == stats.Top([], Measures())
        assert asked(cursor, "status") == stats.Top([], Measures())
        fill(store, [call(1)])
        assert asked(cursor, "route", begin=T + 60 * S).rows == []


def test_a_series_has_every_step(store):
    rows = calls(3)
    fill(store, rows, closed=NOON + 300)
    with store.cursor() as cursor:
        for exact in (False, True):
            source, step = series_of(cursor, ALL, T, T + 660 * S, "1m", exact=exact)
            found = series(cursor, source, step)
            assert [at for at, _ in found] == [T + minute * 60 * S for minute in range(11)]
            for at, measures in found:
                within = [row for row in rows if at <= row["at"] * S < at + 60 * S]
                assert measures == counted(within, 60, exact=exact)


def test_changes(store):
    """Noon to five past against the five minutes before; a route that is new, one that is gone, one that slowed."""
    before = [call(number, at=NOON - 100, route="old", status=500) for number in range(1, 11)]
    before += [call(number, at=NOON - 50, route="slow", total_us=10) for number in range(11, 15)]
    after = [call(number, at=NOON + 10, route="new") for number in range(15, 21)]
    after += [call(number, at=NOON + 20, route="slow", total_us=1000) for number in range(21, 25)]
    fill(store, before + after)
    with store.cursor() as cursor:
        now = source_of(cursor, ALL, T, T + 300 * S, "route")
        then = source_of(cursor, ALL, T - 300 * S, T, "route")
        rows, total = compare(cursor, now, then, "route", "calls", 10)
        assert [(row.key, row.now.calls, row.then.calls) for row in rows] == [
            ("old", 0, 10),
            ("new", 6, 0),
            ("slow", 4, 4),
        ]
        assert (total.now.calls, total.then.calls, total.then.errors) == (10, 14, 10)
        slower, _ = compare(cursor, now, then, "route", "p99", 1)
        assert [row.key for row in slower] == ["slow"]
        _, whole = compare(cursor, now, then, "", "calls", 10)
        assert (whole.now, whole.then) == (total.now, total.then)


def test_periods_of_different_length_are_compared_by_pace(store):
    """Ten times as many calls in ten times the time is no change; twice as many of few is one."""
    long = [call(number, at=NOON - 600 + number % 600, route="steady") for number in range(1, 1001)]
    fill(store, [*long, *(call(number, at=NOON - 5, route="grew") for number in range(2001, 2011))])
    fill(store, [call(number, at=NOON + 5, route="steady") for number in range(3001, 3101)])
    fill(store, [call(number, at=NOON + 5, route="grew") for number in range(4001, 4021)])
    with store.cursor() as cursor:
        now = source_of(cursor, ALL, T, T + 60 * S, "route")
        then = source_of(cursor, ALL, T - 600 * S, T, "route")
        rows, _ = compare(cursor, now, then, "route", "calls", 1)
    assert [row.key for row in rows] == ["grew"]
