"""Error bursts within minutes."""

from __future__ import annotations

import pytest

from gatewayd.collect.bursts import Window, bursts, score
from gatewayd.config.alerts import Bursts

from .alert_store import DAY, HOUR, MONDAY, add_calls, add_hour, ground_of, opened

NOW = MONDAY + 9 * HOUR


@pytest.fixture
def ground(tmp_path):
    """A route with 1 % 5xx and 5 % 4xx in all hours of two days."""
    store = opened(tmp_path)
    ground = ground_of(store)
    for hour in range(NOW - 2 * DAY, NOW, HOUR):
        add_hour(ground.cursor, hour, 1_000, s5xx=10, s4xx=50)
        add_calls(ground.cursor, hour, 1)
    ground.usual.fill(NOW - 3 * DAY, NOW)
    yield ground
    ground.cursor.close()
    store.close()


def minute(ground, at, calls, **sums):
    """A minute of acme's."""
    add_hour(ground.cursor, at, calls, tier="1m", **sums)


def opened_by(ground, since, until):
    """Subjects of findings of an alert's size."""
    return sorted({str(each.subject) for each in bursts(ground, since, until) if each.score >= 1})


def test_a_route_that_fails(ground):
    for number in range(3):
        minute(ground, NOW + 60 * number, 100, s5xx=40)
    assert opened_by(ground, NOW, NOW + 180) == ["consumer:acme 5xx", "gateway: 5xx", "route:claims 5xx"]
    found = next(each for each in bursts(ground, NOW, NOW + 180) if each.subject.kind == "route")
    assert (found.at, found.seconds, found.observed) == (NOW + 60, 300, 0.4)
    assert found.text.startswith("route claims: 40 of 100 calls (40%) failed (5xx) in the five minutes before")
    assert "usual are 1.0%" in found.text


def test_errors_gather_over_five_minutes(ground):
    for number in range(10):
        minute(ground, NOW + 60 * number, 12, s5xx=5)
    found = {each.at for each in bursts(ground, NOW, NOW + 600) if each.score >= 1}
    assert min(found) == NOW + 4 * 60


def test_it_makes_no_difference_how_often_one_looks(ground):
    for number in range(10):
        minute(ground, NOW + 60 * number, 50, s5xx=20)
    at_once = bursts(ground, NOW, NOW + 600)
    each = [found for number in range(10) for found in bursts(ground, NOW + 60 * number, NOW + 60 * number + 60)]
    assert at_once == each


@pytest.mark.parametrize("sums", [{"s5xx": 1}, {"s4xx": 5}, {"s4xx": 25}, {"s5xx": 9}])
def test_the_usual_and_a_little_more_is_none(ground, sums):
    for number in range(5):
        minute(ground, NOW + 60 * number, 100, **sums)
    assert opened_by(ground, NOW, NOW + 300) == []


def test_refused_credentials_are_told_as_such(ground):
    """They are 4xx as well; that is not told besides."""
    minute(ground, NOW, 100, s4xx=80)
    add_calls(ground.cursor, NOW + 5, 80, status=401)
    assert opened_by(ground, NOW, NOW + 60) == ["consumer:acme denied", "gateway: denied", "route:claims denied"]


def test_who_is_not_known_for_a_day_is_held_off(ground):
    minute(ground, NOW, 100, consumer="new", route="fresh", s5xx=90)
    assert opened_by(ground, NOW, NOW + 60) == ["gateway: 5xx"]


@pytest.mark.parametrize(
    ("calls", "errors", "usual", "worst", "enough"),
    [
        (100, 50, 0.0, 0.0, True),
        (100, 19, 0.0, 0.0, False),  # too few errors
        (1_000, 90, 0.0, 0.0, False),  # too small a share
        (100, 50, 0.3, 0.4, False),  # it often is so
        (30, 20, 0.3, 0.3, False),  # by chance
        (400, 400, 0.01, 0.02, True),
    ],
)
def test_scores(calls, errors, usual, worst, enough):
    window = Window(NOW, "route", "claims", "5xx", calls, errors, usual, worst)
    assert (score(window, Bursts()) >= 1) is enough
