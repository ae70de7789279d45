"""Retries and targets that rest: the last resort, and what ends a rest early."""

from __future__ import annotations

from gatewayd.core.clock import FakeClock
from tests.upstream.build import make_exchange, make_group, make_upstream


def test_a_retry_may_go_to_a_target_that_rests_and_its_success_ends_the_rest():
    """The one that served fails while the other, long well again, still rests: both are told apart by trying."""
    clock = FakeClock()
    group = make_group(clock, make_upstream("10.0.0.1:80", "10.0.0.2:80"))
    first, second = group.targets
    for _ in range(5):
        group.started(first)
        group.finished(first, 0.01, True, clock.now)
    assert group.available == (second,)
    clock.advance(1)
    group.started(second)
    group.finished(second, 0.01, True, clock.now, retried=True)
    assert group.pick(make_exchange(), (second,)) is first
    assert group.pick(make_exchange()) is second  # but never for a first attempt
    group.started(first)
    group.finished(first, 0.01, False, clock.now)
    assert group.available == (first, second)
    for _ in range(4):
        group.started(second)
        group.finished(second, 0.01, True, clock.now, retried=True)
    assert group.available == (first,)


def test_an_old_success_says_nothing_about_a_target_that_rests():
    clock = FakeClock()
    group = make_group(clock, make_upstream("10.0.0.1:80", "10.0.0.2:80"))
    first, second = group.targets
    group.started(first)
    for _ in range(5):
        group.started(first)
        group.finished(first, 0.01, True, clock.now)
    clock.advance(1)
    group.finished(first, 5.0, False, clock.now)
    assert group.available == (second,)
