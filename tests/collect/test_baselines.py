"""Hours of the week, medians and their spread, and how far from the usual a value is."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.collect.baselines import (
    DAY,
    HOUR,
    NORMAL,
    SCALES,
    Calendar,
    Level,
    common_cause,
    deviation,
    score,
)

MONDAY = int(datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp())


def level(value=0.0, median=0.0, *, mad=0.0, noise=0.0, spread=1.0, up=0.0, down=0.0, drift=0.0, low=None, high=None):
    """A level; its neighbours are like itself unless said."""
    low, high = median if low is None else low, median if high is None else high
    return Level(value, median, mad, noise, spread, up, down, drift, low, high)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0.01, 10), st.floats(0, 10))
def test_a_deviation_is_at_least_each_of_its_parts(mad, spread, floor, noise):
    sigma = deviation(mad, spread, floor, noise)
    assert sigma * (1 + 1e-9) >= max(NORMAL * mad, spread, floor, math.sqrt(noise))


def test_a_score_is_the_robust_deviation_over_what_is_too_far():
    assert score(level(6.0), 3.0, 0.1) == pytest.approx(2.0)
    assert score(level(-6.0), 3.0, 0.1) == pytest.approx(-2.0)
    assert score(level(6.0, mad=2.0), 3.0, 0.1) == pytest.approx(2 / (2 * NORMAL))


def test_what_a_subject_did_before_must_be_exceeded():
    assert score(level(6.0, up=5.0), 3.0, 0.1) == pytest.approx(1.0)
    assert score(level(6.0, down=5.0), 3.0, 0.1) == pytest.approx(2.0)
    assert score(level(-6.0, down=5.0), 3.0, 0.1) == pytest.approx(-1.0)


def test_an_hour_early_or_late_is_nothing_unusual():
    assert score(level(6.0, high=6.0), 3.0, 0.1) == 0
    assert score(level(6.0, high=3.0), 3.0, 0.1) == pytest.approx(1.0)
    assert score(level(-6.0, low=-7.0), 3.0, 0.1) == 0
    assert score(level(6.0, low=-7.0), 3.0, 0.1) == pytest.approx(2.0)


def test_drift_moves_what_is_expected():
    assert score(level(6.0, drift=6.0), 3.0, 0.1) == 0
    assert level(6.0, median=1.0, drift=2.0).distance == 3.0


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_common_cause_never_makes_a_score_worse(value, common):
    assert abs(score(level(value), 3.0, 0.1, common)) <= abs(score(level(value), 3.0, 0.1))


def test_a_common_cause_explains_what_goes_its_way_alone():
    assert score(level(-6.0), 3.0, 0.1, -6.0) == 0
    assert score(level(6.0), 3.0, 0.1, -6.0) > 0.5
    assert score(level(-20.0), 3.0, 0.1, -2.0) < -3


def test_a_few_have_no_common_cause():
    assert common_cause([5.0] * 7) == 0
    assert common_cause([5.0] * 8) == 5


def test_slots_count_from_mondays_first_hour():
    calendar = Calendar(UTC)
    assert [calendar.slot(MONDAY), calendar.slot(MONDAY - 9 * HOUR), calendar.slot(MONDAY - 10 * HOUR)] == [9, 0, 167]


def test_the_same_hour_of_past_weeks():
    assert Calendar(UTC).weekly(MONDAY, 3) == [MONDAY - 7 * week * DAY for week in (1, 2, 3)]


def test_the_same_hour_by_the_clock_on_the_wall():
    """Clocks in Berlin went ahead on 2026-03-29; the office opened at nine before and after."""
    berlin = ZoneInfo("Europe/Berlin")
    calendar = Calendar(berlin)
    after = int(datetime(2026, 3, 30, 9, tzinfo=berlin).timestamp())
    before = int(datetime(2026, 3, 23, 9, tzinfo=berlin).timestamp())
    assert calendar.weekly(after, 1) == [before]
    assert calendar.slot(after) == calendar.slot(before) == 9
    assert before != after - 7 * DAY


def test_holidays_are_sundays():
    calendar = Calendar(UTC, ["2026-02-16", "2026-03-02"])
    assert calendar.slot(MONDAY) == 6 * 24 + 9
    days = [datetime.fromtimestamp(each, UTC).date().isoformat() for each in calendar.weekly(MONDAY, 3)]
    assert days == ["2026-03-01", "2026-02-22", "2026-02-16", "2026-02-15"]
    days = [datetime.fromtimestamp(each, UTC).day for each in calendar.weekly(MONDAY + 7 * DAY, 3)]
    assert days == [23]  # the 2nd of March and the 16th of February were none


@pytest.mark.parametrize(("day", "count"), [(0, 10), (4, 10), (5, 2), (6, 2)])
def test_days_of_the_same_kind(day, count):
    found = Calendar(UTC).daily(MONDAY + day * DAY)
    assert len(found) == count
    assert {(each - MONDAY) % DAY for each in found} == {0}


def test_every_metric_has_a_scale_that_the_store_understands():
    row = "SELECT 100.0 AS calls, 3.0 AS s4xx, 1.0 AS s5xx, 5000.0 AS bytes, 10.0 AS p95"
    for scale in SCALES:
        (found,) = duckdb.execute(f"SELECT m, {scale.noise} FROM (SELECT {scale.sql} AS m, * FROM ({row}))").fetchall()
        assert all(math.isfinite(each) for each in found)
        assert found[1] > 0
