"""What is used of a rate limit can be asked for: it is what the next request is told, and asking changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.clock import FakeClock
from gatewayd.limits.bucket import Bucket
from gatewayd.limits.fields import SECOND
from gatewayd.limits.rate import Counter
from gatewayd.limits.table import STRANGER
from gatewayd.limits.window import Window

from .workers import contexts

LIMIT = 8
Make = Callable[[], tuple[list[Counter], FakeClock]]


def buckets() -> tuple[list[Counter], FakeClock]:
    """Two workers' buckets of 8, a second for each."""
    clock = FakeClock()
    return [Bucket.of(context, SECOND, LIMIT) for context in contexts(2, clock=clock)], clock


def windows() -> tuple[list[Counter], FakeClock]:
    """Two workers' windows of 8 in 16 seconds."""
    clock = FakeClock()
    return [Window.of(context, LIMIT, 16 * SECOND) for context in contexts(2, clock=clock)], clock


Steps = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 3), st.sampled_from([0.0, 0.4, 1.0, 3.0, 40.0])), max_size=30
)


@pytest.mark.parametrize("make", [buckets, windows])
@given(steps=Steps)
def test_asking_tells_what_the_next_is_told(make: Make, steps: list[tuple[int, int, float]]):
    counters, clock = make()
    spots = [counter.spot(b"a", STRANGER) for counter in counters]
    for worker, cost, seconds in steps:
        clock.advance(seconds)
        now = round(clock.now * 1e9)
        before = [counter.used(spot, now) for counter, spot in zip(counters, spots, strict=True)]
        assert before[0] == before[1] >= 0
        left, _ = counters[0].left(before[0])
        taken = counters[worker].take(spots[worker], cost, now)
        assert (taken >= 0) is (left >= cost)
        after = counters[1 - worker].used(spots[1 - worker], now)
        assert after == (taken if taken >= 0 else before[0])
        assert {counter.limit for counter in counters} == {LIMIT}
