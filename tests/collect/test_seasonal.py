"""Hours against the same hour of past weeks: what is far, what matters, what all do together."""

from __future__ import annotations

import math
from datetime import UTC

import pytest

from gatewayd.collect.baselines import Calendar, Level
from gatewayd.collect.seasonal import judge, natural
from gatewayd.collect.usual import Row
from gatewayd.config.alerts import Seasonal

from .alert_store import MONDAY

CONFIG = Seasonal()


def rate(calls, usual, subject="acme", kind="consumer", spread=0.1):
    """What an hour with so many calls looks like where others had `usual`."""
    middle = math.log(usual + 8)
    level = Level(math.log(calls + 8), middle, 0.0, 1 / (usual + 8), spread, 0.0, 0.0, 0.0, middle, middle)
    return Row(kind, subject, "rate", calls, 0, 0, level)


def other(metric, value, usual, calls=1_000, errors=0, size=0):
    """The same of another metric; values on its scale."""
    level = Level(value, usual, 0.0, 0.0001, 0.05, 0.0, 0.0, 0.0, usual, usual)
    return Row("route", "claims", metric, calls, errors, size, level)


def found(*rows, config=CONFIG):
    """(detector, subject, score of 1 or more) of what is judged unusual."""
    return [(each.detector, str(each.subject), each.score >= 1) for each in judge(rows, MONDAY, config, Calendar(UTC))]


@pytest.mark.parametrize(
    ("calls", "usual", "unusual"),
    [
        (5_000, 1_000, True),
        (1_300, 1_000, False),  # not far enough
        (0, 1_000, True),
        (300, 1_000, True),
        (900, 1_000, False),
        (90, 5, True),
        (54, 5, False),  # under 50 calls more
        (0, 40, False),  # under 50 calls less
    ],
)
def test_rates(calls, usual, unusual):
    assert found(rate(calls, usual)) == ([("rate", "consumer:acme", True)] if unusual else [])


def test_a_noisy_subject_may_do_more():
    assert found(rate(3_000, 1_000, spread=0.1))
    assert not found(rate(3_000, 1_000, spread=0.5))


def test_what_is_near_is_found_too_to_keep_alerts_open():
    assert found(rate(1_800, 1_000, spread=0.15)) == [("rate", "consumer:acme", False)]


@pytest.mark.parametrize(("errors", "unusual"), [(15, False), (200, True)])
def test_errors(errors, unusual):
    row = other("errors", 2 * math.asin(math.sqrt(errors / 1_000)), 2 * math.asin(math.sqrt(0.01)), errors=errors)
    assert bool(found(row)) is unusual
    assert natural(row) == (pytest.approx(0.01), errors / 1_000)


def test_fewer_errors_are_no_alert():
    assert not found(other("errors", 0.0, 1.0))


@pytest.mark.parametrize(("factor", "calls", "unusual"), [(1.2, 1_000, False), (10, 1_000, True), (10, 20, False)])
def test_bytes(factor, calls, unusual):
    """The last has too few of them."""
    row = other("bytes", math.log(5_000 * factor + 64), math.log(5_064), calls, size=5_000 * factor * calls)
    assert bool(found(row)) is unusual


@pytest.mark.parametrize(("factor", "calls", "unusual"), [(1.2, 1_000, False), (3, 1_000, True), (3, 50, False)])
def test_latency(factor, calls, unusual):
    row = other("latency", math.log(40_000 * factor), math.log(40_000), calls)
    assert bool(found(row)) is unusual
    assert natural(row) == pytest.approx((0.04, 0.04 * factor))


def test_on_a_quiet_day_the_gateway_alone_is_told_of():
    rows = [rate(200, 1_000, f"c{number}") for number in range(20)]
    rows.append(rate(4_000, 20_000, "", "gateway"))
    assert found(*rows) == [("rate", "gateway:", True)]


def test_who_does_not_join_in_is_told_of():
    rows = [rate(500, 1_000, f"c{number}") for number in range(20)]
    assert found(*rows, rate(20_000, 1_000, "loud")) == [("rate", "consumer:loud", True)]


def test_texts_say_what_and_when():
    (spike,) = judge([rate(5_120, 410)], MONDAY, CONFIG, Calendar(UTC))
    assert spike.text == (
        "consumer acme made 5,120 calls; usual at this hour are 410 (Mon 2026-03-02 00:00 to 01:00 UTC)"
    )
    assert (spike.at - spike.seconds, spike.baseline, spike.observed) == (MONDAY, pytest.approx(410), 5_120)
    (slow,) = judge([other("latency", math.log(840_000), math.log(210_000))], MONDAY, CONFIG, Calendar(UTC))
    assert slow.text.startswith(
        "route claims: one call of twenty took longer than 840 ms; usual at this hour are 210 ms"
    )
    (large,) = judge(
        [other("bytes", math.log(2**20), math.log(2**10), size=1_000 << 20)], MONDAY, CONFIG, Calendar(UTC)
    )
    assert large.text.startswith("route claims moved 1,000 MiB in 1,000 calls")
    (failed,) = judge([other("errors", 1.0, 0.2, errors=250)], MONDAY, CONFIG, Calendar(UTC))
    assert failed.text.startswith("route claims: 25.0% of 1,000 calls failed or were refused; usual are 1.0%")
