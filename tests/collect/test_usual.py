"""What is usual: rows per hour and subject, and the medians made of them."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.collect.sketch import bin_of, upper_bound
from gatewayd.collect.usual import stamp

from .alert_store import DAY, HOUR, MONDAY, add_calls, add_hour, add_hours, ground_of, opened

NOW = MONDAY + 9 * HOUR


@pytest.fixture
def ground(tmp_path):
    store = opened(tmp_path)
    ground = ground_of(store)
    yield ground
    ground.cursor.close()
    store.close()


def facts(ground, kind, subject):
    """Rows of the table, without their hour."""
    query = "SELECT calls, s4xx, s5xx, denied, bytes, p95 FROM usual_1h WHERE kind = ? AND subject = ? ORDER BY bucket"
    return ground.cursor.execute(query, [kind, subject]).fetchall()


def levels(ground, hour=NOW, **chosen):
    """What is known of an hour, by (kind, subject, metric)."""
    ground.usual.fill(hour - 70 * DAY, hour + HOUR)
    ground.usual.learn(hour)
    found = {(row.kind, row.subject, row.metric): row for row in ground.usual.levels(hour)}
    return {
        key: row for key, row in found.items() if all(getattr(row, name) == wanted for name, wanted in chosen.items())
    }


def test_an_hour_is_added_up_by_consumer_by_route_and_as_a_whole(ground):
    for consumer, route, calls in (("a", "x", 10), ("a", "x", 5), ("a", "y", 1), ("b", "x", 4)):
        add_hour(ground.cursor, NOW, calls, consumer, route, s4xx=1, s5xx=1)
    add_calls(ground.cursor, NOW + 5, 3, consumer="a", route="y", status=401)
    ground.usual.fill(NOW, NOW + HOUR)
    assert facts(ground, "consumer", "a")[0][:5] == (16, 3, 3, 3, 16_000)
    assert facts(ground, "consumer", "b")[0][:5] == (4, 1, 1, 0, 4_000)
    assert facts(ground, "route", "y")[0][:4] == (1, 1, 1, 3)
    assert facts(ground, "gateway", "")[0][:5] == (20, 4, 4, 3, 20_000)


def test_without_single_calls_nothing_is_known_of_refused_credentials(ground):
    add_hour(ground.cursor, NOW, 10)
    ground.usual.fill(NOW, NOW + HOUR)
    assert facts(ground, "consumer", "acme")[0][3] is None


def test_the_slowest_of_twenty(ground):
    add_hour(ground.cursor, NOW, 94, us=1_000)
    add_hour(ground.cursor, NOW, 6, us=900_000)
    ground.usual.fill(NOW, NOW + HOUR)
    assert facts(ground, "route", "claims")[0][5] == pytest.approx(math.log(upper_bound(bin_of(900_000))))


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(100, 10_000), min_size=3, max_size=8), st.integers(100, 10_000))
def test_median_and_mad_are_those_of_the_standard_library(past, now):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        store = opened(Path(folder))
        ground = ground_of(store)
        for week, calls in enumerate(past, 1):
            add_hour(ground.cursor, NOW - 7 * week * DAY, calls)
        add_hour(ground.cursor, NOW, now)
        row = levels(ground)["consumer", "acme", "rate"]
        ground.cursor.close()
        store.close()
    values = [math.log(calls + 8) for calls in past]
    middle = statistics.median(values)
    assert row.level.median == pytest.approx(middle)
    assert row.level.mad == pytest.approx(statistics.median([abs(value - middle) for value in values]), abs=1e-9)
    assert row.level.value == pytest.approx(math.log(now + 8))
    assert row.level.noise == pytest.approx(1 / (math.exp(middle)))


@pytest.mark.parametrize(("weeks", "known"), [(2, False), (3, True)])
def test_an_hour_of_the_week_is_known_after_some_weeks(ground, weeks, known):
    for week in range(weeks + 1):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 100)
    assert (("consumer", "acme", "rate") in levels(ground)) is known


@pytest.mark.parametrize(("days", "known"), [(6, False), (7, True)])
def test_until_then_the_hour_of_the_day_will_do(ground, days, known):
    """Seven days before a Monday are five working days."""
    for day in range(days + 1):
        add_hour(ground.cursor, NOW - day * DAY, 100)
    assert (("consumer", "acme", "rate") in levels(ground)) is known


@pytest.mark.parametrize("others", [0, 3, 4])
def test_hours_in_which_nobody_called_are_unknown_not_silent(ground, others):
    """The daemon was off; where others called, it was not."""
    for week in (1, 2, 3):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 100)
    for week in range(4, 4 + others):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 1, "somebody else")
    add_hour(ground.cursor, NOW - 56 * DAY, 100)
    add_hour(ground.cursor, NOW, 100)
    values = [108] * 4 + [8] * others
    assert levels(ground)["consumer", "acme", "rate"].level.median == pytest.approx(
        statistics.median(map(math.log, values))
    )


def test_who_is_silent_is_seen(ground):
    for week in range(1, 5):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 100)
    add_hour(ground.cursor, NOW, 1, "somebody else")
    row = levels(ground)["consumer", "acme", "rate"]
    assert (row.calls, row.level.value) == (0, pytest.approx(math.log(8)))


def test_before_its_first_call_a_consumer_was_not_silent(ground):
    for week in range(9):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 50, "old")
    for week in range(4):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 100, "new")
    assert levels(ground)["consumer", "new", "rate"].level.median == pytest.approx(math.log(108))


def test_metrics_need_calls(ground):
    for week in range(5):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 10)
    assert {metric for kind, _, metric in levels(ground) if kind == "consumer"} == {"rate", "bytes"}


def test_a_subject_that_varies_more_has_a_larger_spread(ground):
    luck = random.Random(7)
    hours = range(NOW - 56 * DAY, NOW + HOUR, HOUR)
    add_hours(ground.cursor, dict.fromkeys(hours, 1_000), "calm")
    add_hours(ground.cursor, {hour: round(1_000 * math.exp(luck.gauss(0, 0.4))) for hour in hours}, "wild")
    found = levels(ground)
    assert found["consumer", "calm", "rate"].level.spread == 0
    assert 0.3 < found["consumer", "wild", "rate"].level.spread < 0.5
    assert found["consumer", "wild", "rate"].level.tail_up > 1.5


def test_what_is_old_is_forgotten(ground):
    for week in (1, 20):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 100)
    ground.usual.fill(NOW - 200 * DAY, NOW)
    ground.usual.forget(NOW)
    found = ground.cursor.execute("SELECT DISTINCT bucket FROM usual_1h").fetchall()
    assert found == [(stamp(NOW - 7 * DAY),)]


def test_what_holds_for_a_day_is_learned_once_and_of_the_past_alone(ground):
    for week in range(1, 5):
        add_hour(ground.cursor, NOW - 7 * week * DAY, 100)
    add_hour(ground.cursor, MONDAY + HOUR, 100, "today")
    levels(ground)
    watched = ground.cursor.execute("SELECT DISTINCT subject FROM watched WHERE kind = 'consumer'").fetchall()
    assert watched == [("acme",)]
    ground.usual.learn(NOW + HOUR)
    assert ground.cursor.execute("SELECT DISTINCT subject FROM watched WHERE kind = 'consumer'").fetchall() == watched
    ground.usual.learn(NOW + DAY)
    watched = ground.cursor.execute(
        "SELECT DISTINCT subject FROM watched WHERE kind = 'consumer' ORDER BY 1"
    ).fetchall()
    assert watched == [("acme",), ("today",)]


def test_it_learns_in_little_memory(tmp_path):
    """Others need the rest of what the store may use: ingestion, questions."""
    store = opened(tmp_path)
    ground = ground_of(store)
    ground.cursor.execute(
        """
        INSERT INTO usual_1h
        SELECT make_timestamp((? + h * 3600)::BIGINT * 1000000), kind, format('{}{:03d}', kind, k),
               1000 + hash(h, k) % 100, 5, 5, 0, 1e6, 11
        FROM range(1344) hours(h), (SELECT 'consumer' AS kind, k FROM range(128) a(k) UNION ALL SELECT 'gateway', 0)
        """,
        [MONDAY - 56 * DAY],
    )
    store.limit(24 << 20)
    ground.usual.learn(MONDAY)
    ((count,),) = ground.cursor.execute("SELECT count(*) FROM profile").fetchall()
    assert count == 129 * 4
    ground.cursor.close()
    store.close()
