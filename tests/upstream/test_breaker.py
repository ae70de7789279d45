"""The circuit breaker's states."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import model
from gatewayd.config.units import Duration
from gatewayd.upstream.breaker import Breaker

CONFIG = model.Breaker(min_requests=4, probes=2)  # half of them over 10 s; open for 5 s


def opened(config: model.Breaker = CONFIG) -> Breaker:
    """A breaker that opened at 100."""
    breaker = Breaker("u", config)
    for _ in range(config.min_requests):
        breaker.record(True, 0.1, 100.0)
    assert breaker.state == "open"
    return breaker


def half_open() -> Breaker:
    """A breaker that is half-open since 105 and gave out both trials."""
    breaker = opened()
    assert [breaker.allow(105.0) for _ in range(3)] == [True, True, False]
    return breaker


def test_it_opens_at_the_share_of_failures():
    breaker = Breaker("u", CONFIG)
    for failed in (False, False, True, False, False, True, True):
        breaker.record(failed, 0.1, 100.0)
    assert breaker.closed  # three of seven
    breaker.record(True, 0.1, 100.0)
    assert (breaker.state, breaker.closed, breaker.opened) == ("open", False, 1)


def test_it_needs_enough_requests_to_open():
    breaker = Breaker("u", CONFIG)
    for _ in range(3):
        breaker.record(True, 0.1, 100.0)
    assert breaker.allow(100.0)
    breaker.record(True, 0.1, 100.0)
    assert not breaker.allow(100.0)


def test_failures_outside_the_window_do_not_count():
    breaker = Breaker("u", CONFIG)
    for second in range(0, 200, 5):
        breaker.record(True, 0.1, 100.0 + second)
        assert breaker.closed


def test_one_that_is_off_never_opens():
    breaker = Breaker("u", model.Breaker(enabled=False))
    for _ in range(10_000):
        breaker.record(True, 0.1, 100.0)
    assert breaker.allow(100.0)


def test_open_it_refuses_until_its_time_is_over():
    breaker = opened()
    assert not breaker.allow(104.999)
    assert breaker.allow(105.0)
    assert breaker.state == "half_open"


def test_how_long_to_wait_before_asking_again():
    breaker = opened()
    assert [breaker.wait(now) for now in (100.0, 103.5, 104.9, 200.0)] == [5, 2, 1, 1]
    breaker = half_open()
    breaker.record(False, 0.1, 105.2)
    breaker.record(False, 0.1, 105.3)
    assert breaker.wait(105.3) == 1


def test_successful_trials_close_it():
    breaker = half_open()
    breaker.record(False, 0.1, 105.2)
    assert breaker.state == "half_open"
    breaker.record(False, 0.1, 105.3)
    assert (breaker.state, breaker.closed) == ("closed", True)
    for failed in (False, False, False, True):
        breaker.record(failed, 0.1, 105.4)
    assert breaker.closed  # what failed before is forgotten


def test_a_failed_trial_opens_it_again():
    breaker = half_open()
    breaker.record(False, 0.1, 105.2)
    breaker.record(True, 0.1, 105.3)
    assert breaker.state == "open"
    assert not breaker.allow(110.2)
    assert breaker.allow(110.3)
    assert breaker.opened == 1


@pytest.mark.parametrize("failed", [True, False])
def test_exchanges_from_before_are_no_trials(failed):
    breaker = half_open()
    for _ in range(5):
        breaker.record(failed, 3.0, 105.2)
    assert breaker.state == "half_open"


def test_results_that_arrive_while_open_change_nothing():
    breaker = opened()
    for _ in range(5):
        breaker.record(False, 0.1, 104.0)
    assert breaker.state == "open"


def test_lost_trials_are_given_out_again():
    breaker = half_open()
    assert not breaker.allow(109.9)
    assert [breaker.allow(110.0) for _ in range(3)] == [True, True, False]
    breaker.record(False, 4.9, 110.0)  # a slow one of the first round still counts
    breaker.record(False, 0.1, 110.2)
    assert breaker.closed


def test_carrying_over_keeps_state_and_counts():
    new = Breaker("u", CONFIG)
    new.carry_over(opened())
    assert (new.state, new.allow(104.0), new.allow(105.0)) == ("open", False, True)
    old = Breaker("u", CONFIG)
    for _ in range(3):
        old.record(True, 0.1, 100.0)
    new = Breaker("u", CONFIG)
    new.carry_over(old)
    new.record(True, 0.1, 100.0)
    assert new.state == "open"


def test_status():
    breaker = Breaker("u", CONFIG)
    breaker.record(True, 0.1, 100.0)
    breaker.record(False, 0.1, 100.0)
    assert breaker.status(101.0) == {"state": "closed", "opened": 0, "requests": 2, "failures": 1}


def test_changes_are_logged(caplog):
    with caplog.at_level(logging.INFO):
        breaker = half_open()
        breaker.record(False, 0.1, 105.2)
        breaker.record(False, 0.1, 105.3)
    assert [record.getMessage() for record in caplog.records] == [
        "upstream u: breaker open, 4 of 4 exchanges failed",
        "upstream u: breaker half-open, trying 2 exchanges",
        "upstream u: breaker closed",
    ]


EVENTS = st.lists(st.one_of(st.floats(0.01, 7), st.sampled_from(["ask", "ask", "good", "bad"])), max_size=200)


@given(EVENTS, st.integers(1, 4))
def test_never_more_trials_than_probes(events, probes):
    breaker = opened(model.Breaker(min_requests=2, probes=probes, open_for=Duration(5)))
    now, granted = 100.0, []
    for event in events:
        if isinstance(event, float):
            now += event
            continue
        before = breaker.state
        if event != "ask":
            breaker.record(event == "bad", 0.0, now)
        elif breaker.allow(now) and before != "closed":
            granted.append(now)
            assert sum(1 for time in granted if time > now - 5) <= probes
        if breaker.state != "half_open":
            granted = []


@given(EVENTS)
def test_open_it_lets_nothing_through(events):
    breaker = Breaker("u", CONFIG)
    now, opened_at = 100.0, None
    for event in events:
        if isinstance(event, float):
            now += event
        elif event == "ask":
            allowed = breaker.allow(now)
            assert not (allowed and opened_at is not None and now < opened_at + 5)
        else:
            breaker.record(event == "bad", 0.0, now)
        if breaker.state != "open":
            opened_at = None
        elif opened_at is None:
            opened_at = now
