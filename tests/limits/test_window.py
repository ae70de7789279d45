"""Sliding windows: never more than the limit in any period, whoever counts, and all of it back a slice later."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.limits.table import OWN
from gatewayd.limits.window import SLICES, Window
from tests.limits.workers import SECOND, contexts, together

PERIOD = 16 * SECOND
SLICE = PERIOD // SLICES
START = 1_000 * SECOND


class Clocked:
    """Windows of several workers and the clock they share."""

    def __init__(self, workers: int, limit: int, period: int = PERIOD) -> None:
        self.clock = FakeClock(START / SECOND)
        made = contexts(workers, Arena(size=1 << 28), self.clock)
        self.windows = [Window.of(context, limit, period) for context in made]
        self.spots = [window.spot(b"key", OWN) for window in self.windows]
        self.count = workers

    def take(self, worker: int, cost: int, now: int) -> int:
        self.clock.now = now / SECOND
        return self.windows[worker % self.count].take(self.spots[worker % self.count], cost, now)


ASKED = st.lists(
    st.tuples(st.integers(0, 7), st.one_of(st.integers(0, SLICE), st.integers(0, 20 * SLICE)), st.integers(1, 4)),
    max_size=60,
)


@given(st.integers(1, 8), st.integers(4, 20), ASKED)
def test_one_after_the_other_it_counts_the_running_slice_and_sixteen_full_ones(workers, limit, asked):
    clocked, now, charged = Clocked(workers, limit), START, []
    for worker, passed, cost in asked:
        now += passed
        held = sum(each for when, each in charged if when // SLICE >= now // SLICE - SLICES)
        found = clocked.take(worker, cost, now)
        if held + cost <= limit:
            assert found == held + cost
            charged.append((now, cost))
        else:
            assert found < 0


@given(st.integers(1, 8), st.integers(4, 20), ASKED)
def test_no_period_whatever_its_edges_holds_more_than_the_limit(workers, limit, asked):
    clocked, now, charged = Clocked(workers, limit), START, []
    for worker, passed, cost in asked:
        now += passed
        if clocked.take(worker, cost, now) >= 0:
            charged.append((now, cost))
    for end, _ in charged:
        assert sum(cost for when, cost in charged if end - PERIOD < when <= end) <= limit


@pytest.mark.parametrize("offset", [0, 1, SLICE // 2, SLICE - 1])
def test_bursts_at_both_sides_of_an_edge_do_not_add_up(offset):
    clocked = Clocked(2, 10)
    first = START + offset
    assert sum(clocked.take(number, 1, first) >= 0 for number in range(30)) == 10
    assert sum(clocked.take(number, 1, first + PERIOD - 1) >= 0 for number in range(30)) == 0
    assert sum(clocked.take(number, 1, first + PERIOD + SLICE) >= 0 for number in range(30)) == 10


@pytest.mark.parametrize("limit", [7, 50])
def test_after_the_wait_it_tells_there_is_room(limit):
    clocked, now = Clocked(1, limit), START
    for number in range(limit):
        assert clocked.take(0, 1, now + number * SLICE // 9) >= 0
    now += limit * SLICE // 9
    wait = -clocked.take(0, 1, now)
    assert 0 < wait <= PERIOD + SLICE
    assert clocked.take(0, 1, now + wait - 1) < 0
    assert clocked.take(0, 1, now + wait) >= 0


def test_what_is_too_much_for_any_window_is_refused_and_not_counted():
    clocked = Clocked(1, 3)
    assert clocked.take(0, 4, START) < 0
    assert clocked.take(0, 3, START) == 3


def test_a_steady_caller_below_the_limit_is_never_refused():
    clocked = Clocked(2, 16)  # a slice's worth is one
    assert all(clocked.take(number, 1, START + number * SLICE * 17 // 16) >= 0 for number in range(400))


def test_what_is_given_back_is_free_at_once_and_for_others_a_slice_later():
    clocked = Clocked(2, 2)
    window, spot = clocked.windows[0], clocked.spots[0]
    assert clocked.take(0, 2, START) == 2
    window.give_back(spot, 1, START)
    assert clocked.take(1, 1, START) == 2
    later = START + SLICE
    assert clocked.take(1, 1, later) < 0
    window.give_back(spot, 1, START)
    assert clocked.take(1, 1, later) < 0, "the slice is over, and summed"
    assert clocked.take(1, 1, later + SLICE) == 2


def test_what_is_forgotten_is_not_given_back():
    clocked = Clocked(1, 2)
    window, spot = clocked.windows[0], clocked.spots[0]
    assert clocked.take(0, 2, START) == 2
    later = START + 18 * SLICE  # the same cell
    assert clocked.take(0, 1, later) == 1
    window.give_back(spot, 2, START)
    assert clocked.take(0, 1, later) == 2


def test_left_is_told_in_requests_and_seconds():
    clocked = Clocked(1, 5)
    assert clocked.windows[0].left(clocked.take(0, 2, START)) == (3, 16)


# -- in each other's way ----------------------------------------------------------------------------------------------


def test_a_claim_that_comes_after_its_slice_has_ended_counts_in_the_next():
    """A worker stands still between its clock and its claim: another has summed the slice meanwhile, without it."""
    clocked = Clocked(2, 2)
    slow, spot = clocked.windows[0], clocked.spots[0]
    acquire = slow._acquire

    def stand_still():
        slow._acquire = acquire
        acquire()
        assert clocked.take(1, 1, START + SLICE) >= 0  # moves the clock

    slow._acquire = stand_still
    assert slow.take(spot, 1, START) == 2
    assert clocked.take(1, 1, START + SLICE) < 0
    number = (START + SLICE) // SLICE
    assert slow._cells[spot.row + number % (SLICES + 2)] == (number << 24) + 1


def test_two_that_give_way_to_each_other_try_again():
    clocked = Clocked(2, 1)
    window, spot = clocked.windows[0], clocked.spots[0]
    number = START // SLICE
    other = spot.row + number % (SLICES + 2) + SLICES + 2
    window._cells[other] = (number << 24) + 1  # the other has claimed …
    looks, running = [], window._running

    def look(*arguments):
        looks.append(running(*arguments))
        window._cells[other] = 0  # … and gives way
        return looks[-1]

    window._running = look
    assert window.take(spot, 1, START) == 1
    assert looks == [2, 0, 1]


@given(st.lists(st.integers(0, 5), min_size=4, max_size=40), st.integers(1, 4))
def test_no_interleaving_lets_one_too_many_through(script, limit):
    clocked, steps, found = Clocked(4, limit), iter(script), []
    busy: set[int] = set()

    def between():
        for other in (next(steps, 0), next(steps, 0)):
            if 0 < other < 4 and other not in busy:
                busy.add(other)
                found.append(clocked.take(other, 1, START))
                busy.discard(other)

    for window in clocked.windows:
        running = window._running
        window._acquire, window._release = between, lambda: None
        window._running = lambda *arguments, running=running: (running(*arguments), between())[0]
    for worker in (0, 1, 0, 2, 3, 0):
        busy = {worker}
        found.append(clocked.take(worker, 1, START))
    assert sum(used >= 0 for used in found) <= limit


@pytest.mark.parametrize("workers", [2, 8])
def test_processes_share_one_window_to_the_request(workers):
    clocked = Clocked(workers, 5_000)

    def work(worker):
        accepted = refused = 0
        while refused < 2_000:
            if clocked.take(worker, 1, START) >= 0:
                accepted += 1
            else:
                refused += 1
        return accepted

    assert sum(together(workers, work)) == 5_000


def test_threads_switched_at_every_turn_share_one_window_to_the_request():
    clocked, accepted = Clocked(4, 400), []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(worker):
        accepted.append(sum(clocked.take(worker, 1, START) >= 0 for _ in range(1_000)))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sum(accepted) == 400
