"""Enumeration, credential sharing and off-hours use, on calls put in by hand."""

from __future__ import annotations

import pytest

from gatewayd.collect.detectors import enumeration, off_hours, sharing
from gatewayd.config.alerts import Alerts, Enumeration, OffHours, Sharing

from .alert_store import DAY, HOUR, MONDAY, add_calls, add_hour, add_hours, ground_of, opened

NOW = MONDAY + 9 * HOUR


@pytest.fixture
def ground(tmp_path):
    """Acme is known since long, and looked at since long."""
    store = opened(tmp_path)
    ground = ground_of(store, enumeration=Enumeration(distinct=20), sharing=Sharing(networks=4, agents=4))
    add_hour(ground.cursor, NOW - 40 * DAY, 10)
    ground.usual.fill(NOW - 50 * DAY, NOW)
    for name in ("enumeration", "sharing"):
        ground.peaks.set_mark(name, NOW - 30 * DAY)
    yield ground
    ground.cursor.close()
    store.close()


def ids(count, prefix="v"):
    """Different values."""
    return [f"{prefix}{number}" for number in range(count)]


def subjects(findings):
    """Whom findings of an alert's size are about."""
    return [str(each.subject) for each in findings if each.score >= 1]


def test_many_different_ids_in_a_minute(ground):
    add_calls(ground.cursor, NOW + 5, values=ids(50))
    (found,) = enumeration(ground, NOW, NOW + 60)
    assert str(found.subject) == "consumer:acme /v1/claims/{id}"
    assert (found.at, found.seconds, found.observed, found.score) == (NOW + 60, 60, 50, 2.5)
    assert "asked for 50 different /v1/claims/{id} within the minute of 2026-03-02 09:00 UTC, 0 of them" in found.text


def test_many_times_the_same_id_are_none(ground):
    add_calls(ground.cursor, NOW + 5, 500, values="same")
    assert enumeration(ground, NOW, NOW + 60) == []


def test_ids_count_by_the_minute_and_by_the_operation(ground):
    add_calls(ground.cursor, NOW + 59, values=ids(15))
    add_calls(ground.cursor, NOW + 61, values=ids(15, "w"))
    add_calls(ground.cursor, NOW + 59, values=ids(15, "x"), operation="/v1/quotes/{id}")
    assert subjects(enumeration(ground, NOW, NOW + 120)) == []


@pytest.mark.parametrize(
    ("past", "status", "enough"),
    [
        ([100, 100, 100], 404, 300),
        ([100, 100, 100], 403, 300),
        ([100, 100, 100], 200, 600),  # who finds what it asks for may be a job larger than ever
        ([100, 100, 900], 404, 300),
        ([100, 100, 900], 200, 1_800),
        ([900], 404, 20),
        ([900], 200, 1_800),
        ([], 200, 20),
    ],
)
def test_who_always_asked_for_many_may(ground, past, status, enough):
    for day, count in enumerate(past, 1):
        add_calls(ground.cursor, NOW - day * DAY, values=ids(count))
        enumeration(ground, NOW - day * DAY, NOW - day * DAY + 60)
    add_calls(ground.cursor, NOW, values=ids(enough - 1), status=status)
    add_calls(ground.cursor, NOW + 60, values=ids(enough), status=status)
    assert [each.at for each in enumeration(ground, NOW, NOW + 120) if each.score >= 1] == [NOW + 120]


@pytest.mark.parametrize(("missed", "guessed"), [(29, False), (30, True)])
def test_a_part_of_what_is_asked_for_is_enough_to_call_it_guesswork(ground, missed, guessed):
    for day in (1, 2):
        add_calls(ground.cursor, NOW - day * DAY, values=ids(20))
        enumeration(ground, NOW - day * DAY, NOW - day * DAY + 60)
    add_calls(ground.cursor, NOW, values=ids(100 - missed, "there"))
    add_calls(ground.cursor, NOW, values=ids(missed, "guessed"), status=404)
    (found,) = enumeration(ground, NOW, NOW + 60)
    assert f"{missed} of them answered 403 or 404; its most in 5 weeks is 20, or 20 on its worst day" in found.text
    assert (found.score >= 1) == guessed


def test_a_credential_is_told_of_where_its_consumer_is_used_to_many(ground):
    for day in (1, 2, 3):
        add_calls(ground.cursor, NOW - day * DAY, values=ids(200), credential="batch")
        enumeration(ground, NOW - day * DAY, NOW - day * DAY + 60)
    add_calls(ground.cursor, NOW, values=ids(100), credential="portal")
    assert subjects(enumeration(ground, NOW, NOW + 60)) == ["credential:acme/portal /v1/claims/{id}"]


def test_addresses_of_nobody_known_and_of_many_consumers(ground):
    add_calls(ground.cursor, NOW, values=ids(50), consumer="", client="198.51.100.1")
    for number in range(5):
        mine = ids(10, f"c{number}")
        add_calls(ground.cursor, NOW, values=mine, consumer=f"c{number}", client="198.51.100.2")
    found = enumeration(ground, NOW, NOW + 60)
    names = {ground.veil("198.51.100.1"), ground.veil("198.51.100.2")}
    assert {each.subject.name for each in found if each.subject.kind == "address"} == names
    assert not any("198.51" in each.text for each in found)


def test_cold_starts_say_nothing(ground):
    add_calls(ground.cursor, NOW, values=ids(50), consumer="new")
    assert enumeration(ground, NOW, NOW + 60) == []
    ground.peaks.set_mark("enumeration", NOW - 6 * DAY)
    add_calls(ground.cursor, NOW, values=ids(50))
    assert enumeration(ground, NOW, NOW + 60) == []


def test_erased_calls_say_nothing(ground):
    add_calls(ground.cursor, NOW, 50, values=None, client=None)
    assert enumeration(ground, NOW, NOW + 60) == []
    assert sharing(ground, NOW, NOW + 600) == []


def test_one_credential_from_many_networks(ground):
    add_calls(ground.cursor, NOW, client=[f"192.0.{number}.1" for number in range(9)])
    (found,) = sharing(ground, NOW, NOW + 600)
    assert str(found.subject) == "credential:acme/key"
    assert (found.observed, found.score, found.at) == (9, 9 / 4, NOW + 600)
    assert "192.0" not in found.text


@pytest.mark.parametrize(
    "clients",
    [
        [f"192.0.2.{number}" for number in range(50)],
        [f"2001:db8:1:{number}::1" for number in range(50)],
    ],
)
def test_addresses_of_one_network_are_one(ground, clients):
    add_calls(ground.cursor, NOW, client=clients)
    assert sharing(ground, NOW, NOW + 600) == []


def test_many_programs(ground):
    add_calls(ground.cursor, NOW, agent=[f"agent/{number}" for number in range(8)])
    assert subjects(sharing(ground, NOW, NOW + 600)) == ["credential:acme/key"]


def test_who_always_came_from_many_may(ground):
    for day in (1, 2, 3):
        add_calls(ground.cursor, NOW - day * DAY, client=[f"192.0.{number}.1" for number in range(30)])
        sharing(ground, NOW - day * DAY, NOW - day * DAY + 600)
    add_calls(ground.cursor, NOW, client=[f"192.0.{number}.1" for number in range(50)])
    assert subjects(sharing(ground, NOW, NOW + 600)) == []
    add_calls(ground.cursor, NOW, client=[f"192.0.{number}.1" for number in range(70)])
    assert subjects(sharing(ground, NOW, NOW + 600)) == ["credential:acme/key"]


def test_stretches_of_ten_minutes_are_looked_at_once(ground):
    add_calls(ground.cursor, NOW + 60, client=[f"192.0.{number}.1" for number in range(9)])
    found = [sharing(ground, NOW + 60 * minute, NOW + 60 * minute + 60) for minute in range(30)]
    assert [len(each) for each in found].index(1) == 9
    assert sum(map(len, found)) == 1


OFFICE = {
    day * DAY + hour * HOUR: 50
    for day in range(-56, 0)
    for hour in range(8, 18)
    if day % 7 < 5  # MONDAY is day 0
}


def off(tmp_path, past, calls, hour=MONDAY + 3 * HOUR):
    """What is found of `calls` in an hour, of a consumer with that past."""
    store = opened(tmp_path)
    ground = ground_of(store, off_hours=OffHours(min_calls=20))
    add_hours(ground.cursor, {MONDAY + each: many for each, many in past.items()})
    add_hours(ground.cursor, dict.fromkeys(range(MONDAY - 56 * DAY, MONDAY, HOUR), 5), "others")
    add_hour(ground.cursor, hour, calls)
    ground.usual.fill(MONDAY - 60 * DAY, hour + HOUR)
    ground.usual.learn(hour)
    found = off_hours(ground, hour)
    ground.cursor.close()
    store.close()
    return found


def test_an_office_at_night(tmp_path):
    (found,) = off(tmp_path, OFFICE, 40)
    assert (str(found.subject), found.score, found.observed) == ("consumer:acme", 1.2, 40)
    assert "at which it made none in past weeks (Mon 2026-03-02 03:00 to 04:00 UTC)" in found.text


@pytest.mark.parametrize(
    ("past", "calls", "hour"),
    [
        (OFFICE, 9, MONDAY + 3 * HOUR),  # too few
        (OFFICE, 40, MONDAY + 10 * HOUR),  # by day
        (OFFICE, 40, MONDAY + 18 * HOUR),  # an hour late
        (OFFICE | {3 * HOUR - 14 * DAY: 40}, 40, MONDAY + 3 * HOUR),  # it was there before
        ({each: many for each, many in OFFICE.items() if each > -20 * DAY}, 40, MONDAY + 3 * HOUR),  # too new
        (dict.fromkeys(range(-56 * DAY, 0, 31 * HOUR), 50), 40, MONDAY + 3 * HOUR),  # never at the same hour
    ],
)
def test_what_is_no_off_hours_use(tmp_path, past, calls, hour):
    assert off(tmp_path, past, calls, hour) == []


def test_defaults_are_those_of_the_configuration():
    assert (Alerts().enumeration.distinct, Alerts().sharing.networks) == (40, 5)
