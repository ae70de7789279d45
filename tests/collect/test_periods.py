from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.collect import periods
from gatewayd.collect.periods import STEPS, Piece, Rollup, aligned, cover, fitting, step_for
from gatewayd.collect.schema import TIERS
from tests.support.calls import NOON, call, fill, store_in

S = 1_000_000
MINUTE, HOUR, DAY = 60 * S, 3600 * S, 86_400 * S
T = NOON * S
WIDTHS = {tier.name: tier.seconds * S for tier in TIERS}


def tiers(since, until=None):
    """All tiers with data from `since` on, complete until `until`."""
    return [
        Rollup(name, width, since - since % width, T + 400 * DAY if until is None else until)
        for name, width in WIDTHS.items()
    ]


def test_a_long_period_is_days_with_finer_edges():
    begin, end = T - 10 * DAY + 7 * MINUTE + 34 * S, T + 3 * HOUR + 65 * S
    assert cover(begin, end, tiers(T - 100 * DAY)) == [
        Piece("10s", begin - 4 * S, begin + 26 * S),
        Piece("1m", begin + 26 * S, T - 10 * DAY + HOUR),
        Piece("1h", T - 10 * DAY + HOUR, T - 9 * DAY - 12 * HOUR),
        Piece("1d", T - 9 * DAY - 12 * HOUR, T - 12 * HOUR),
        Piece("1h", T - 12 * HOUR, T + 3 * HOUR),
        Piece("1m", T + 3 * HOUR, T + 3 * HOUR + MINUTE),
        Piece("10s", T + 3 * HOUR + MINUTE, T + 3 * HOUR + 70 * S),
    ]


def test_a_short_period():
    assert cover(T + 1, T + 2, tiers(0)) == [Piece("10s", T, T + 10 * S)]


def test_what_has_no_finer_data_any_more_is_widened():
    fine, minutes, *coarse = tiers(T - 100 * DAY)
    found = [fine._replace(since=T - HOUR), minutes._replace(since=T - 2 * HOUR), *coarse]
    assert cover(T - 5 * HOUR + 7 * MINUTE, T - 4 * HOUR + 7 * MINUTE, found) == [
        Piece("1h", T - 5 * HOUR, T - 3 * HOUR)
    ]
    assert cover(T - 90 * MINUTE + 5 * S, T - HOUR, found) == [Piece("1m", T - 90 * MINUTE, T - HOUR)]


def test_what_coarse_tiers_have_not_got_yet_comes_from_finer_ones():
    found = [each._replace(until=T) if each.tier != "10s" else each for each in tiers(T - DAY)]
    assert cover(T - HOUR, T + HOUR, found) == [Piece("1h", T - HOUR, T), Piece("10s", T, T + HOUR)]


def test_nothing_is_widened_for_a_store_that_is_new():
    """Before its first call there was nothing, in no tier."""
    first = T + 20 * MINUTE
    assert cover(T + 7 * MINUTE, T + 30 * MINUTE, tiers(first))[0].begin == T + 7 * MINUTE


moments = st.integers(T - 40 * DAY, T + 2 * DAY)


@given(
    st.tuples(moments, moments).map(sorted).filter(lambda pair: pair[0] < pair[1]),
    st.lists(st.integers(T - 30 * DAY, T), min_size=4, max_size=4).map(lambda found: sorted(found, reverse=True)),
    st.lists(st.integers(T - 2 * DAY, T + 2 * DAY), min_size=4, max_size=4).map(lambda found: sorted(found)[::-1]),
)
def test_pieces_join_and_have_data(period, since, until):
    """One behind the other, over all of the period, each in whole buckets and within what its tier has."""
    begin, end = period
    known = [
        Rollup(name, width, old - old % width, new - new % width if name != "10s" else 1 << 62)
        for (name, width), old, new in zip(WIDTHS.items(), since, until, strict=True)
    ]
    found = cover(begin, end, known)
    assert found[0].begin <= begin
    assert found[-1].end >= end
    assert all(one.end == other.begin for one, other in pairwise(found))
    for piece in found:
        tier = next(tier for tier in known if tier.tier == piece.tier)
        assert piece.begin < piece.end <= tier.until
        assert piece.begin % tier.width == piece.end % tier.width == 0
        coarser = [other for other in known if other.width > tier.width]
        lost = [other for other in coarser if other.since < tier.since - tier.since % other.width]
        assert piece.begin >= tier.since or not any(other.until > piece.begin + other.width for other in lost)


def test_the_tiers_of_a_store(tmp_path):
    store = store_in(tmp_path)
    with store.cursor() as cursor:
        assert periods.rollups(cursor) == []
        assert cover(T, T + S, periods.rollups(cursor)) == []
        fill(store, [call(number, at=NOON + 61 * number) for number in range(3)], closed=NOON + 120)
        assert periods.rollups(cursor) == [
            Rollup("10s", 10 * S, T, 1 << 62),
            Rollup("1m", MINUTE, T, T + 2 * MINUTE),
        ]
    store.close()


@pytest.mark.parametrize(
    ("length", "step"),
    [(60, "10s"), (20 * 60, "10s"), (3600, "30s"), (2 * 3600, "1m"), (86_400, "15m"), (7 * 86_400, "6h"), (9**9, "1d")],
)
def test_a_step_that_suits(length, step):
    assert step_for(T - length * S, T, None, tiers(0)) == step


def test_a_step_that_is_wanted():
    fine, minutes, hours, days = tiers(T - 100 * DAY)
    gone = [fine._replace(since=T - HOUR), minutes._replace(since=T - DAY), hours, days]
    assert step_for(T - 10 * MINUTE, T, "10s", gone) == "10s"
    assert step_for(T - 2 * HOUR, T, "10s", gone) == "1m"
    assert step_for(T - 2 * DAY, T, "30s", gone) == "1h"
    assert step_for(T - 2 * DAY, T, None, gone) == "1h"
    assert step_for(T - 2 * DAY, T, "1d", gone) == "1d"
    assert step_for(T - 2 * DAY, T, "10s", []) == "10s"


def test_tiers_that_fit_into_a_step():
    assert [tier.tier for tier in fitting("5m", tiers(0))] == ["10s", "1m"]
    assert [tier.tier for tier in fitting("30s", tiers(0))] == ["10s"]
    assert [tier.tier for tier in fitting("1d", tiers(0))] == ["10s", "1m", "1h", "1d"]


def test_whole_steps():
    for step, seconds in STEPS.items():
        begin, end = aligned(T + 1, T + 2, step)
        assert begin <= T < T + 2 <= end
        assert end - begin == seconds * S
