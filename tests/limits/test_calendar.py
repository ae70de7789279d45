"""Calendar periods: they tile time in every zone, and begin when people say they do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.limits.calendar import ANCHOR, Calendar, Per, Period

PERS = get_args(Per)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # changed clocks at midnight: some days begin at 01:00
    "America/Havana",  # midnight came twice
    "Australia/Lord_Howe",  # changes by half an hour
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",  # left out 2011-12-30
    "Africa/Casablanca",
    "Antarctica/Troll",  # changes by two hours
    "Pacific/Kiritimati",
]


def calendar(per: Per, zone: str = "UTC", starts: str = "") -> Calendar:
    return Calendar(per, ZoneInfo(zone), datetime.fromisoformat(starts) if starts else ANCHOR)


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    """Seconds since the epoch of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def local(period: Period, zone: str = "UTC") -> tuple[str, str]:
    """Both ends as their zone's clocks show them."""
    first, last = (datetime.fromtimestamp(each, ZoneInfo(zone)).replace(tzinfo=None) for each in period)
    return first.isoformat(" ", "minutes"), last.isoformat(" ", "minutes")


@pytest.mark.parametrize(
    ("per", "starts", "ends"),
    [
        ("minute", "2026-11-23 14:35", "2026-11-23 14:36"),
        ("hour", "2026-11-23 14:00", "2026-11-23 15:00"),
        ("day", "2026-11-23 00:00", "2026-11-24 00:00"),
        ("week", "2026-11-23 00:00", "2026-11-30 00:00"),  # a Monday
        ("month", "2026-11-01 00:00", "2026-12-01 00:00"),
        ("quarter", "2026-10-01 00:00", "2027-01-01 00:00"),
        ("year", "2026-01-01 00:00", "2027-01-01 00:00"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_what_people_call_a_period(per, starts, ends, zone):
    found = calendar(per, zone).period(at("2026-11-23 14:35:20.5", zone))
    assert local(found, zone) == (starts, ends)


@pytest.mark.parametrize(
    ("per", "anchor", "starts", "ends"),
    [
        ("hour", "2026-01-01T00:30", "2026-11-23 13:30", "2026-11-23 14:30"),
        ("day", "2026-01-01T06:00", "2026-11-23 06:00", "2026-11-24 06:00"),
        ("week", "2026-01-02", "2026-11-20 00:00", "2026-11-27 00:00"),  # Fridays
        ("month", "2026-01-15", "2026-11-15 00:00", "2026-12-15 00:00"),
        ("month", "2030-03-15T12:00", "2026-11-15 12:00", "2026-12-15 12:00"),  # one of the future does as well
        ("quarter", "2026-02-01", "2026-11-01 00:00", "2027-02-01 00:00"),
        ("year", "2020-04-01", "2026-04-01 00:00", "2027-04-01 00:00"),
    ],
)
def test_periods_begin_where_they_are_said_to(per, anchor, starts, ends):
    found = calendar(per, starts=anchor).period(at("2026-11-23 14:20"))
    assert local(found) == (starts, ends)


def test_months_too_short_for_their_date_begin_on_their_last_day():
    monthly = calendar("month", starts="2026-01-31")
    begins = [local(monthly.period(at(f"2028-{month:02}-15")))[1][5:10] for month in range(1, 6)]
    assert begins == ["01-31", "02-29", "03-31", "04-30", "05-31"]
    assert local(calendar("year", starts="2024-02-29").period(at("2026-06-01")))[0] == "2026-02-28 00:00"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_days_are_as_long_as_clocks_make_them(day, hours):
    found = calendar("day", "Europe/Berlin").period(at(f"{day} 12:00", "Europe/Berlin"))
    assert found.end - found.start == hours * 3600


def test_an_hour_that_clocks_show_twice_is_two_hours():
    hourly = calendar("hour", "Europe/Berlin")
    first, second = (hourly.period(at("2026-10-25 02:30", "Europe/Berlin", fold)) for fold in (0, 1))
    assert first.end == second.start
    assert [each.end - each.start for each in (first, second)] == [3600, 3600]


def test_a_day_without_midnight_begins_when_it_begins():
    found = calendar("day", "America/Sao_Paulo").period(at("2018-11-04 12:00", "America/Sao_Paulo"))
    assert local(found, "America/Sao_Paulo") == ("2018-11-04 01:00", "2018-11-05 00:00")


def test_a_day_with_two_midnights_begins_at_the_first():
    havana = "America/Havana"
    found = calendar("day", havana).period(at("2026-11-01 00:30", havana, fold=1))
    assert found == (at("2026-11-01", havana), at("2026-11-02", havana))
    assert found.end - found.start == 25 * 3600


def test_a_time_that_clocks_jump_over_comes_later():
    daily = calendar("day", "Europe/Berlin", "2026-01-01T02:30")
    found = daily.period(at("2026-03-29 12:00", "Europe/Berlin"))
    assert local(found, "Europe/Berlin") == ("2026-03-29 03:30", "2026-03-30 02:30")


def test_a_date_left_out_has_no_period():
    daily = calendar("day", "Pacific/Apia")
    before = daily.period(at("2011-12-29 12:00", "Pacific/Apia"))
    after = daily.period(before.end)
    assert local(after, "Pacific/Apia") == ("2011-12-31 00:00", "2012-01-01 00:00")


ZONE = st.sampled_from(ZONES)
MOMENT = st.datetimes(datetime(1975, 1, 1), datetime(2060, 1, 1))
ANCHORS = st.datetimes(datetime(1999, 1, 1), datetime(2040, 1, 1)).map(lambda moment: moment.replace(microsecond=0))


@given(st.sampled_from(PERS), ZONE, MOMENT, st.just(ANCHOR) | ANCHORS)
def test_periods_tile_time(per, zone, moment, anchor):
    tiles = Calendar(per, ZoneInfo(zone), anchor)
    wall = moment.replace(tzinfo=UTC).timestamp()
    period = tiles.period(wall)
    assert period.start <= wall < period.end
    for inside in (period.start, (period.start + period.end) / 2, period.end - 0.001):
        assert tiles.period(inside) == period
    assert tiles.period(period.end).start == period.end
    assert tiles.period(period.start - 0.001).end == period.start


@given(ZONE, MOMENT, ANCHORS)
def test_days_around_every_change_of_clocks_tile_time(zone, moment, anchor):
    """Walked one after the other through half a year, which has a change of clocks where a zone has any."""
    tiles = Calendar("day", ZoneInfo(zone), anchor)
    periods = [tiles.period(moment.replace(tzinfo=UTC).timestamp())]
    while len(periods) < 180:
        periods.append(tiles.period(periods[-1].end))
    assert all(one.end == other.start for one, other in pairwise(periods))
    assert {each.end - each.start for each in periods} <= {hours * 1800 for hours in range(44, 53)}


@given(st.sampled_from(("day", "week", "month", "quarter", "year")), ZONE, MOMENT)
def test_a_period_begins_at_its_local_time(per, zone, moment):
    """Unless the clocks jumped over that: then at the first moment after it."""
    start = Calendar(per, ZoneInfo(zone)).period(moment.replace(tzinfo=UTC).timestamp()).start
    here = datetime.fromtimestamp(start, ZoneInfo(zone)).replace(tzinfo=None)
    before = datetime.fromtimestamp(start - 1, ZoneInfo(zone)).replace(tzinfo=None)
    assert here.time() == ANCHOR.time() or here - before > timedelta(seconds=1)
    assert before.date() < here.date()
