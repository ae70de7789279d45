"""Clocks: the machine's, and the one that tests move."""

from __future__ import annotations

import time

from gatewayd.core.clock import FakeClock, SystemClock


def test_the_system_clock_tells_the_machines_times():
    clock = SystemClock()
    before = time.monotonic(), time.time()
    told = clock.monotonic(), clock.wall()
    after = time.monotonic(), time.time()
    assert before[0] <= told[0] <= after[0]
    assert before[1] - 1 <= told[1] <= after[1] + 1  # this one may be set meanwhile


def test_a_fake_clock_stands_until_it_is_moved():
    clock = FakeClock(now=10.0, wall=1_000.0)
    assert (clock.monotonic(), clock.wall()) == (clock.monotonic(), clock.wall()) == (10.0, 1_000.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.wall()) == (12.5, 1_002.5)


def test_a_fake_clocks_wall_can_jump_alone():
    clock = FakeClock()
    before = clock.monotonic()
    clock.wall_now -= 3_600
    assert clock.monotonic() == before
