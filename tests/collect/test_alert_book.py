"""Alerts: opened once, followed, closed when it is calm."""

from __future__ import annotations

import pytest

from gatewayd.collect.alert_book import CALM_HOURS, Book, alerts
from gatewayd.collect.finding import Contributor, Finding, Subject

from .alert_store import HOUR, MONDAY, opened

MADE_OF = (Contributor("route", "claims", 9.0, 1.0, 0.9),)


@pytest.fixture
def cursor(tmp_path):
    store = opened(tmp_path)
    cursor = store.cursor()
    yield cursor
    cursor.close()
    store.close()


def book(cursor, cooldown=HOUR, most=10):
    """A book whose alerts are all made of the same."""
    return Book(cursor, cooldown, most, lambda _: MADE_OF)


def found(hour, score, name="acme", detector="rate", observed=9.0):
    """Something found in an hour, counted from Monday's first."""
    at = MONDAY + (hour + 1) * HOUR
    return Finding(detector, Subject("consumer", name), at, HOUR, score, 1.0, observed, f"text {score}")


def kinds(changes):
    """What became of alerts."""
    return [each.kind for each in changes]


def at(hour):
    """The end of an hour."""
    return MONDAY + (hour + 1) * HOUR


def test_an_alert_opens_once_and_is_closed_when_it_is_calm(cursor):
    this = book(cursor)
    assert kinds(this.take([found(0, 1.2)], at(0))) == ["opened"]
    assert kinds(this.take([found(1, 1.2)], at(1))) == []
    assert kinds(this.take([], at(2))) == []
    (change,) = this.take([], at(3))
    assert (change.kind, change.alert.at, change.alert.resolved_at) == ("resolved", MONDAY, at(1))
    assert alerts(cursor, "true") == [change.alert]
    assert this.open == []


def test_less_than_enough_opens_none_but_keeps_one_open(cursor):
    this = book(cursor)
    assert this.take([found(0, 0.9)], at(0)) == []
    this.take([found(1, 1.0)], at(1))
    for hour in range(2, 9):
        assert this.take([found(hour, 0.6)], at(hour)) == []
    assert len(this.open) == 1
    assert kinds(this.take([], at(10))) == ["resolved"]


def test_it_is_told_once_more_when_it_becomes_critical(cursor):
    this = book(cursor)
    this.take([found(0, 1.2)], at(0))
    (change,) = this.take([found(1, 2.5, observed=99.0)], at(1))
    assert (change.kind, change.alert.severity, change.alert.observed, change.alert.text) == (
        "raised", "critical", 99.0, "text 2.5",
    )  # fmt: skip
    assert this.take([found(2, 1.2)], at(2)) == []
    assert alerts(cursor, "true") == this.open == [change.alert]


def test_it_is_written_anew_when_it_grows(cursor):
    this = book(cursor)
    this.take([found(0, 1.0)], at(0))
    this.take([found(1, 1.1, observed=10.0)], at(1))
    assert this.open[0].observed == 9.0
    assert this.take([found(2, 1.6, observed=11.0)], at(2)) == []
    assert (this.open[0].observed, alerts(cursor, "true")[0].observed) == (11.0, 11.0)


@pytest.mark.parametrize(("gap", "same"), [(0, True), (1, True), (3, False)])
def test_what_comes_back_within_the_cooldown_is_the_same(cursor, gap, same):
    this = book(cursor)
    (first,) = this.take([found(0, 1.2)], at(0))
    this.take([], at(2))
    changes = this.take([found(2 + gap - 1, 1.2)], at(2 + gap))
    assert kinds(changes) == ([] if same else ["opened"])
    assert (this.open[0].id == first.alert.id) is same


def test_several_minutes_at_once_are_as_one_after_the_other(cursor):
    """An hour is looked at as a whole; within it an alert was over and came back a while later."""
    this = book(cursor, cooldown=0)
    minutes = [
        Finding("error_burst", Subject("route", "r", "5xx"), MONDAY + 60 * minute, 300, 1.5, 0.0, 0.5, "")
        for minute in (5, 6, 7, 45)
    ]
    assert kinds(this.take(minutes, MONDAY + HOUR)) == ["opened", "resolved", "opened", "resolved"]
    assert [each.at for each in alerts(cursor, 'true ORDER BY "at"')] == [MONDAY, MONDAY + 40 * 60]


def test_subjects_and_detectors_are_apart(cursor):
    this = book(cursor)
    findings = [found(0, 1.2), found(0, 1.2, "b"), found(0, 1.2, detector="latency")]
    assert kinds(this.take(findings, at(0))) == ["opened"] * 3
    assert this.is_open(found(5, 0.1))
    assert not this.is_open(found(5, 0.1, "c"))


def test_only_so_many_are_open(cursor, caplog):
    this = book(cursor, most=3)
    this.take([found(0, 1.2, f"c{number}") for number in range(5)], at(0))
    assert (len(this.open), this.suppressed) == (3, 2)
    assert caplog.text.count("max_open") == 1
    assert this.take([found(1, 2.5, "c0")], at(1))[0].kind == "raised"


def test_a_restart_goes_on_with_what_is_open(cursor):
    (opened_,) = book(cursor).take([found(0, 1.2)], at(0))
    this = book(cursor)
    assert this.open == [opened_.alert]
    assert this.take([], at(5)) == []  # nobody looked in between: calm counts from here on
    assert kinds(this.take([], at(5) + CALM_HOURS - 1)) == ["resolved"]


def test_old_alerts_are_forgotten(cursor):
    this = book(cursor)
    this.take([found(0, 1.2), found(0, 1.2, "b")], at(0))
    this.take([found(hour, 1.2, "b") for hour in range(1, 9)], at(8))
    this.forget(at(20))
    assert [each.subject for each in alerts(cursor, "true")] == ["consumer:b"]


def test_what_it_is_made_of_survives(cursor):
    book(cursor).take([found(0, 1.2)], at(0))
    assert alerts(cursor, "true")[0].contributors == MADE_OF
