from __future__ import annotations

import pytest

from gatewayd.collect import sources
from gatewayd.collect.filters import Filters
from gatewayd.collect.schema import CALLS_COLUMNS, KEYS
from gatewayd.collect.sketch import bin_of
from gatewayd.collect.sources import DIMENSIONS, SUMS, series_of, source_of
from tests.support.calls import NOON, call, fill, store_in

S = 1_000_000
T = NOON * S
ALL = Filters()


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    rows = [
        call(1, route="a", consumer="x", status=200, total_us=3, bytes_in=1, bytes_out=10),
        call(2, route="a", consumer="y", status=502, total_us=5_000, upstream_us=4_000, client=None),
        call(3, route="b", consumer="x", status=429, total_us=70, code="rate_limited"),
        call(64, route="b", consumer="x", status=499, total_us=80),
    ]
    fill(store, rows, closed=NOON + 60)
    with store.cursor() as cursor:
        yield cursor
    store.close()


def rows_of(cursor, relation, columns):
    text, values = relation
    return sorted(cursor.execute(f"SELECT {columns} FROM ({text})", values).fetchall())


@pytest.mark.parametrize("exact", [False, True])
def test_sums_are_the_same_from_rollups_and_calls(cursor, exact):
    source = source_of(cursor, ALL, T, T + 120 * S, "route", exact=exact)
    assert source.name == ("calls" if exact else "1m+10s")
    columns = ", ".join(f"sum({name})::INTEGER" for name in SUMS)
    text, values = source.sums("route")
    found = cursor.execute(f"SELECT key, {columns} FROM ({text}) GROUP BY key ORDER BY key", values).fetchall()
    assert found == [("a", 2, 1, 0, 0, 1, 10, 5003, 4000), ("b", 2, 0, 2, 1, 0, 0, 150, 0)]


def test_latencies_in_bins_and_each(cursor):
    rolled_up = source_of(cursor, ALL, T, T + 120 * S, "")
    single = source_of(cursor, ALL, T, T + 120 * S, "", exact=True)
    bins = [(bin_of(us), 1) for us in (3, 70, 80, 5000)]
    assert rows_of(cursor, rolled_up.bins(""), "value, n") == bins == rows_of(cursor, single.bins(""), "value, n")
    assert rows_of(cursor, single.latencies(""), "value, n") == [(3, 1), (70, 1), (80, 1), (5000, 1)]


@pytest.mark.parametrize(
    ("filters", "by", "name"),
    [
        (ALL, "", "10s"),
        (ALL, "consumer", "10s"),
        (Filters(exact={"route": ("a",), "tenant": ("t",)}), "service", "10s"),
        (ALL, "status", "calls"),
        (Filters(status=((500, 599),)), "route", "calls"),
        (Filters(text="a"), "route", "calls"),
        (Filters(exact={"code": ("",)}), "route", "calls"),
    ],
)
def test_rollups_answer_for_what_they_know(cursor, filters, by, name):
    assert source_of(cursor, filters, T, T + 30 * S, by).name == name


def test_filters_hold_for_every_piece(cursor):
    source = source_of(cursor, Filters(exact={"consumer": ("x",)}), T, T + 120 * S, "consumer")
    assert len(source.pieces) == 2
    assert rows_of(cursor, source.sums("consumer"), "key, calls") == [("x", 1)] * 3


def test_the_period_is_what_was_counted(cursor):
    rolled_up = source_of(cursor, ALL, T + 1, T + 61 * S, "")
    assert (rolled_up.begin, rolled_up.end, rolled_up.oldest) == (T, T + 70 * S, T)
    single = source_of(cursor, ALL, T + 1, T + 61 * S, "", exact=True)
    assert (single.begin, single.end, single.oldest) == (T + 1, T + 61 * S, T + S)


def test_a_series_takes_tiers_that_fit(cursor):
    fine, step = series_of(cursor, ALL, T + 1, T + 90 * S, None, exact=False)
    assert (fine.name, step, fine.end) == ("10s", "10s", T + 90 * S)
    coarse, step = series_of(cursor, ALL, T + 1, T + 90 * S, "5m", exact=False)
    assert (coarse.name, step, coarse.begin, coarse.end) == ("1m+10s", "5m", T, T + 300 * S)
    single, step = series_of(cursor, Filters(text="x"), T + 1, T + 90 * S, "30s", exact=False)
    assert (single.name, step, single.begin, single.end) == ("calls", "30s", T, T + 90 * S)


def test_a_store_without_anything(tmp_path):
    store = store_in(tmp_path)
    with store.cursor() as cursor:
        for exact in (False, True):
            source = source_of(cursor, ALL, T, T + S, "", exact=exact)
            assert source.oldest is None
            assert rows_of(cursor, source.sums(""), "calls") == []
    store.close()


def test_dimensions_are_columns(cursor):
    assert set(DIMENSIONS) - {"class"} <= set(CALLS_COLUMNS)
    assert set(KEYS) <= set(DIMENSIONS)
    for by in DIMENSIONS:
        text, values = source_of(cursor, ALL, T, T + 120 * S, by).sums(by)
        keys = cursor.execute(f"SELECT DISTINCT {sources.label(by)} FROM ({text})", values).fetchall()
        assert all(isinstance(key, str) for (key,) in keys)
    text, values = source_of(cursor, ALL, T, T + 120 * S, "class").sums("class")
    assert sorted(cursor.execute(f"SELECT DISTINCT {sources.label('class')} FROM ({text})", values).fetchall()) == [
        ("2xx",),
        ("4xx",),
        ("5xx",),
    ]
