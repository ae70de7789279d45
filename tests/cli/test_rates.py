"""Rates and percentiles out of two looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cli.rates import SORTS, Count, Row, frame, ordered, percentile, troubled
from tests.cli.overviews import BOUNDS, STARTED, overview, route, target, verdict


def test_what_went_on_between_two_looks():
    before = overview(100, routes={"quotes": route(1000)})
    now = overview(110, routes={"quotes": route(1150, client=30, server=20, slow=10, bytes_in=5000)})
    found = frame(now, before)
    (row,) = found.routes
    assert (row.name, row.rps, row.client_errors, row.errors) == ("quotes", 20.0, 3.0, 2.0)
    assert (row.bytes_in, row.bytes_out) == (500.0, 2000.0)
    assert 0.001 < row.p50 < 0.01
    assert 0.1 < row.p99 < 1.0
    assert row.upstream == pytest.approx(0.004)
    assert found.total == Row("", *(getattr(row, name) for name in row.__struct_fields__[1:]))
    assert found.seconds == 10


@pytest.mark.parametrize("before", [None, overview(90, started=STARTED - 500), overview(100), overview(120)])
def test_without_an_earlier_look_at_the_same_daemon_it_is_since_its_start(before):
    found = frame(overview(100, routes={"quotes": route(1000)}), before)
    assert (found.seconds, found.routes[0].rps) == (100, 10)


def test_a_route_that_is_new_counts_whole():
    found = frame(overview(110, routes={"a": route(100), "b": route(50)}), overview(100, routes={"a": route(100)}))
    assert {row.name: row.rps for row in found.routes} == {"b": 5.0, "a": 0.0}
    assert found.routes[1].p99 == found.routes[1].upstream == 0


def test_nothing_at_all():
    found = frame(overview(), overview(99))
    assert (found.routes, found.policies, found.refusals, found.targets, found.total.rps) == ([], [], [], [], 0)


def test_what_was_decided_and_refused_by_how_often_lately():
    before = overview(100, verdicts=[verdict(50)], refusals={"limited": 50, "route_not_found": 900})
    now = overview(
        110,
        verdicts=[verdict(60), verdict(40, "observed", "watch", "observe"), verdict(3, "failed", "watch", "observe")],
        refusals={"limited": 60, "route_not_found": 900},
        failures={"caller_gone": 20, "limited": 5},
    )
    found = frame(now, before)
    assert found.policies == [
        Count("watch observed", 4.0, 40),
        Count("fair refused", 1.0, 60),
        Count("watch failed (observe)", 0.3, 3),
    ]
    assert found.refusals == [
        Count("caller_gone", 2.0, 20),
        Count("limited", 1.0, 60),
        Count("route_not_found", 0.0, 900),
    ]


def test_targets_in_trouble_come_first():
    before = overview(100, targets=[target("a:80"), target("c:80", requests=100)])
    now = overview(
        110,
        targets=[
            target("a:80", requests=120, failures=3),
            target("b:80", available=1, requests=0, failures=0),
            target("c:80", requests=90),  # a worker was started again
            target("d:80", requests=0, failures=0, breaker="half_open"),
        ],
    )
    found = frame(now, before).targets
    assert [each.counts.target for each in found] == ["b:80", "d:80", "a:80", "c:80"]
    assert [troubled(each) for each in found] == [True, True, False, False]
    assert [(each.rps, each.failures) for each in found][2:] == [(2.0, 0.1), (0.0, 0.0)]


def row(name, **fields):
    nothing = dict.fromkeys(Row.__struct_fields__[1:], 0.0)
    return Row(name, **{**nothing, **fields})


ROWS = [row("a", rps=1), row("b", p99=1), row("c", p50=1), row("d", errors=1), row("e", bytes_out=1), row("0")]


@pytest.mark.parametrize(
    ("sort", "first"), [("rps", "a"), ("p99", "b"), ("p50", "c"), ("errors", "d"), ("bytes", "e"), ("name", "0")]
)
def test_rows_are_ordered_by_what_one_likes(sort, first):
    found = [each.name for each in ordered(ROWS, sort)]
    assert found[0] == first
    assert found[1:] == sorted(found[1:])
    assert sort in SORTS


def test_a_percentile_lies_in_the_bucket_it_falls_into():
    assert percentile(0.5, [0, 10, 0, 0, 0], BOUNDS) == pytest.approx(0.0055)
    assert percentile(0.99, [99, 0, 0, 1, 0], BOUNDS) == 0.001
    assert percentile(0.5, [0, 0, 0, 0, 3], BOUNDS) == 1.0
    assert percentile(0.5, [0] * 5, BOUNDS) == 0.0


@given(st.lists(st.integers(0, 20), min_size=5, max_size=5), st.floats(0.01, 1.0))
def test_percentiles_rise_with_their_share(counts, share):
    found = percentile(share, counts, BOUNDS)
    assert percentile(share / 2, counts, BOUNDS) <= found <= percentile(1.0, counts, BOUNDS) <= BOUNDS[-1]
