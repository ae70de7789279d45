"""Looks at a store: each stretch once, all or nothing, and never ahead of the collector."""

from __future__ import annotations

import pytest

from gatewayd.collect.alert_book import alerts
from gatewayd.collect.watching import STRETCHES, Watching
from gatewayd.config.alerts import Alerts
from gatewayd.config.model import Document

from .alert_store import DAY, HOUR, MONDAY, add_calls, add_hour, add_hours, complete, opened

NOON = MONDAY + 12 * HOUR


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Single minutes of the last three hours, not of a week."""
    monkeypatch.setattr("gatewayd.collect.watching.BACK", 3 * HOUR)


@pytest.fixture
def store(tmp_path):
    """Eight weeks of 1,000 calls an hour, until noon."""
    store = opened(tmp_path)
    with store.cursor() as cursor:
        add_hours(cursor, dict.fromkeys(range(MONDAY - 56 * DAY, NOON, HOUR), 1_000))
        add_calls(cursor, MONDAY - 8 * DAY)
        complete(cursor, NOON)
    yield store
    store.close()


def watching(store, tell=lambda cursor, changes: None, **options):
    """The detectors over it."""
    return Watching(store.cursor(), Document(alerts=Alerts(**options)), tell)


def go_on(store, hours, calls):
    """So many calls in each hour from noon on."""
    with store.cursor() as cursor:
        add_hours(cursor, dict.fromkeys(range(NOON, NOON + hours * HOUR, HOUR), calls))
        complete(cursor, NOON + hours * HOUR)


def caught_up(this, now):
    """Look until there is no more to look at; what became of alerts."""
    changes = []
    while this.behind(now) or (not changes and this.ground.peaks.mark("looked at") is None):
        before = this.ground.peaks.mark("looked at")
        changes += this.look(now)
        if this.ground.peaks.mark("looked at") == before:
            break
    return [(each.kind, each.alert.detector, each.alert.subject) for each in changes]


def test_a_look_leaves_no_transaction_open(store):
    """One would keep DuckDB's log from being merged into the file: it would grow without end."""
    this = watching(store)
    caught_up(this, NOON)
    go_on(store, 1, 1_000)
    with store.cursor() as cursor:
        cursor.execute("SET checkpoint_threshold = '1KiB'")
        replace = "INSERT OR REPLACE INTO positions VALUES ('calls-0', ?, 2, repeat('0', 4096)::BLOB, 3)"
        for number in range(5):
            cursor.execute(replace, [number])
            this.look(NOON + HOUR)
            this.behind(NOON + HOUR)
        assert store.size() == store.path.stat().st_size
    this.close()


def test_a_spike_is_found_told_and_over(store):
    this = watching(store)
    assert caught_up(this, NOON) == []
    go_on(store, 1, 9_000)
    assert caught_up(this, NOON + HOUR) == [("opened", "rate", "consumer:acme")]
    with store.cursor() as cursor:
        add_hours(cursor, dict.fromkeys(range(NOON + HOUR, NOON + 4 * HOUR, HOUR), 1_000))
        complete(cursor, NOON + 4 * HOUR)
        assert caught_up(this, NOON + 4 * HOUR) == [("resolved", "rate", "consumer:acme")]
        (alert,) = alerts(cursor, "true")
    assert (alert.at, alert.resolved_at) == (NOON, NOON + HOUR)
    assert [(each.kind, each.name, each.share) for each in alert.contributors] == [("route", "claims", 1.0)]
    this.close()


def test_silence_is_found(store):
    this = watching(store)
    caught_up(this, NOON)
    go_on(store, 1, 0)
    assert ("opened", "rate", "consumer:acme") in caught_up(this, NOON + HOUR)
    this.close()


def test_what_the_collector_is_behind_with_is_no_silence(store):
    this = watching(store)
    caught_up(this, NOON)
    assert caught_up(this, NOON + 5 * HOUR) == []
    assert this.behind(NOON + 5 * HOUR) == 5 * HOUR
    this.close()


def test_an_hour_waits_for_its_rollup(store):
    this = watching(store)
    caught_up(this, NOON)
    go_on(store, 1, 9_000)
    with store.cursor() as cursor:
        cursor.execute("UPDATE cascaded SET until = until - INTERVAL 1 HOUR WHERE tier = '1h'")
    assert caught_up(this, NOON + HOUR) == []
    assert this.ground.peaks.mark("looked at") == NOON + HOUR - 60
    with store.cursor() as cursor:
        complete(cursor, NOON + HOUR)
    assert len(caught_up(this, NOON + HOUR)) == 1
    this.close()


def test_the_same_is_found_after_a_restart_and_in_one_go(store):
    go_on(store, 6, 9_000)
    this = watching(store)
    assert caught_up(this, NOON + 6 * HOUR) == [("opened", "rate", "consumer:acme")]
    this.close()
    again = watching(store)
    assert caught_up(again, NOON + 6 * HOUR) == []
    assert [each.subject for each in again.book.open] == ["consumer:acme"]
    again.close()


def test_what_was_never_recorded_was_not_looked_at(store):
    """A week of nothing is no week that was watched."""
    with store.cursor() as cursor:
        cursor.execute("DELETE FROM calls")
        add_calls(cursor, NOON - 60)
    this = watching(store)
    this.look(NOON)
    assert this.ground.peaks.mark("sharing") == NOON - HOUR
    this.close()


def test_before_the_first_minute_is_added_up_there_is_nothing(store):
    with store.cursor() as cursor:
        cursor.execute("DELETE FROM cascaded")
    this = watching(store)
    assert this.look(NOON) == []
    assert this.behind(NOON) == 0
    this.close()


def test_a_stretch_ends_where_there_is_enough_to_look_at(store, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.watching.MOST", 100)
    this = watching(store)
    caught_up(this, NOON)
    with store.cursor() as cursor:
        for minute, calls in enumerate((60, 60, 500, 10)):
            add_hour(cursor, NOON + 60 * minute, calls, tier="1m")
        complete(cursor, NOON + 240)
    marks = []
    this._tell = lambda cursor, changes: marks.append(this.ground.peaks.mark("looked at") - NOON)
    this.look(NOON + 240)
    assert marks == [60, 120, 180, 240]
    this.close()


def test_a_look_is_bounded(store, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.watching.BACK", 30 * HOUR)
    this = watching(store)
    this.look(NOON)
    assert this.behind(NOON) == (30 - STRETCHES) * HOUR
    this.close()


def test_what_is_old_is_learned_from_but_not_told(store, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.watching.BACK", 28 * HOUR)
    with store.cursor() as cursor:
        add_hour(cursor, NOON - 26 * HOUR, 50_000)
    this = watching(store)
    assert caught_up(this, NOON) == []
    this.close()


def test_a_stretch_that_fails_leaves_nothing_behind(store):
    def fail(cursor, changes):
        if changes:
            raise RuntimeError

    this = watching(store)
    caught_up(this, NOON)
    this.close()
    go_on(store, 1, 9_000)
    this = watching(store, fail)
    with pytest.raises(RuntimeError):
        this.look(NOON + HOUR)
    assert this.ground.peaks.mark("looked at") == NOON
    this.close()
    told = []
    this = watching(store, lambda cursor, changes: told.extend(changes))
    assert caught_up(this, NOON + HOUR) == [("opened", "rate", "consumer:acme")]
    assert [each.kind for each in told] == ["opened"]
    with store.cursor() as cursor:
        query = "SELECT count(*), count(DISTINCT bucket) FROM usual_1h WHERE kind = 'gateway'"
        ((rows, hours),) = cursor.execute(query).fetchall()
    assert rows == hours
    this.close()


@pytest.mark.parametrize("options", [{"mute_consumers": ["acme"]}, {"mute_routes": ["claims"]}])
def test_what_is_muted_is_not_told_of(store, options):
    this = watching(store, **options)
    caught_up(this, NOON)
    go_on(store, 1, 9_000)
    assert not any(subject in str(options) for _, _, subject in caught_up(this, NOON + HOUR) if subject != "gateway:")
    muted = {"consumer:acme", "route:claims"} & {each.subject for each in this.book.open}
    assert muted == ({"route:claims"} if "mute_consumers" in options else {"consumer:acme"})
    this.close()


def test_a_failing_route_opens_one_alert(store):
    """Not one for the route, one for each consumer and one for all traffic."""
    with store.cursor() as cursor:
        for hour in range(NOON - 3 * DAY, NOON, HOUR):
            for consumer in ("b", "c", "d"):
                add_hour(cursor, hour, 1_000, consumer)
    this = watching(store)
    caught_up(this, NOON)
    with store.cursor() as cursor:
        for consumer in ("acme", "b", "c", "d"):
            add_hour(cursor, NOON, 100, consumer, tier="1m", s5xx=60)
            add_calls(cursor, NOON, 60, consumer=consumer, status=503)
        complete(cursor, NOON + 60)
    assert caught_up(this, NOON + 60) == [("opened", "error_burst", "route:claims 5xx")]
    this.close()
