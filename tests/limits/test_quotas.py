"""Quotas: so much in a period and no more, whatever clocks, workers and disks do."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.core.clock import FakeClock
from gatewayd.core.state import StateError
from gatewayd.limits import ledger as ledgers
from gatewayd.limits.book import ROWS, Book, BookFull
from gatewayd.limits.calendar import Calendar
from gatewayd.limits.fields import SECOND
from gatewayd.limits.ledger import Ledger
from gatewayd.limits.quotas import Quota, QuotaError, Spot
from gatewayd.limits.table import OWN
from tests.support.forked import forked

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86_400.0


class Worker:
    """A worker's quota, with a ledger of its own, on a clock that tests move."""

    def __init__(self, state: Path, clock: FakeClock, limit: int = 5, calendar: Calendar | None = None) -> None:
        self.clock = clock
        self.ledger = Ledger(state)
        self.quota = Quota("plan", limit, calendar or Calendar("day"), lambda: self.ledger, clock.wall)
        self.spots: dict[bytes, Spot] = {}

    @property
    def now(self) -> int:
        """Monotonic nanoseconds."""
        return round(self.clock.monotonic() * 1e9)

    def take(self, key: bytes = b"a", cost: int = 1) -> int:
        """What is used then; below 0 the seconds until there is room, rounded up."""
        used = self.quota.take(self.spot(key), cost, self.now)
        return used if used >= 0 else used // SECOND

    def spot(self, key: bytes) -> Spot:
        return self.spots.setdefault(key, self.quota.spot(key, OWN))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=NOON)


@pytest.fixture
def worker(tmp_path: Path, clock: FakeClock) -> Worker:
    return Worker(tmp_path, clock)


def test_so_much_in_a_period(worker, clock):
    assert [worker.take() for _ in range(7)] == [1, 2, 3, 4, 5, -12 * 3600, -12 * 3600]
    assert worker.take(b"b") == 1
    clock.advance(12 * HOUR - 0.5)
    assert worker.take() == -1
    clock.advance(0.5)
    assert worker.take() == 1


def test_it_shows_how_many_have_a_row_of_their_own(worker, clock):
    assert worker.quota.figures() == {"keys": 0, "keys_most": ROWS[OWN]}
    for key in (b"a", b"b", b"a"):
        worker.take(key)
    assert worker.quota.figures()["keys"] == 2
    clock.advance(DAY)
    worker.take(b"a")
    assert worker.quota.figures()["keys"] == 1


def test_what_is_left(worker, clock):
    assert worker.quota.left(worker.take(cost=2)) == (3, 12 * 3600)
    clock.advance(12 * HOUR - 0.25)
    assert worker.quota.left(5) == (0, 1)


def test_a_large_request_may_find_no_room_where_a_small_one_does(worker):
    assert worker.take(cost=4) == 4
    assert worker.take(cost=2) < 0
    assert worker.take(cost=1) == 5


def test_asking_counts_nothing(worker, clock):
    assert worker.quota.used(worker.spot(b"a"), worker.now) == 0
    worker.take()
    assert [worker.quota.used(worker.spot(b"a"), worker.now) for _ in range(2)] == [1, 1]
    clock.advance(DAY)
    assert worker.quota.used(worker.spot(b"a"), worker.now) == 0


def test_the_day_of_a_time_zone(tmp_path, clock):
    clock.wall_now = datetime(2026, 3, 28, 22, tzinfo=UTC).timestamp()  # 23 o'clock in Berlin, before a short day
    worker = Worker(tmp_path, clock, 1, Calendar("day", ZoneInfo("Europe/Berlin")))
    assert [worker.take() for _ in range(2)] == [1, -3600]
    clock.advance(HOUR)
    assert [worker.take() for _ in range(2)] == [1, -23 * 3600]


def test_workers_count_together(tmp_path, clock):
    workers = [Worker(tmp_path, clock) for _ in range(3)]
    assert [each.take() for each in workers * 2] == [1, 2, 3, 4, 5, -12 * 3600]


def test_a_lower_limit_after_a_reload_counts_at_once(worker, clock, tmp_path):
    for _ in range(4):
        worker.take()
    stricter = Worker(tmp_path, clock, limit=2)
    assert stricter.take() < 0
    assert Worker(tmp_path, clock, limit=6).take() == 5


# -- giving back ------------------------------------------------------------------------------------------------------


def test_what_is_given_back_can_be_used_again(worker):
    before = worker.now
    assert worker.take(cost=5) == 5
    worker.quota.give_back(worker.spot(b"a"), 5, before)
    assert worker.take() == 1


@pytest.mark.parametrize("moves", [(DAY,), (DAY, -DAY)], ids=["over", "over and back"])
def test_a_period_that_is_over_gets_nothing_back(worker, clock, moves):
    before = worker.now
    worker.take()
    for seconds in moves:
        clock.now += 1
        clock.wall_now += seconds
        worker.take()
    used = worker.quota.used(worker.spot(b"a"), worker.now)
    worker.quota.give_back(worker.spot(b"a"), 1, before)
    assert worker.quota.used(worker.spot(b"a"), worker.now) == used


# -- clocks that are set ----------------------------------------------------------------------------------------------


def test_a_clock_set_back_over_an_edge_grants_nothing_twice(worker, clock):
    for _ in range(5):
        worker.take()
    clock.wall_now += 12 * HOUR + 5
    assert worker.take() == 1
    clock.wall_now -= 10
    assert worker.take() == -5
    clock.wall_now += 10
    assert worker.take() == 2


@pytest.mark.parametrize("jump", [DAY, 2 * DAY, 366 * DAY, 73 * 365 * DAY])
def test_a_clock_that_jumps_ahead_and_comes_back_loses_nothing(worker, clock, tmp_path, jump):
    for _ in range(3):
        worker.take()
    clock.wall_now += jump
    assert worker.take() == 1
    clock.wall_now -= jump
    assert worker.take() == 4
    assert Worker(tmp_path, clock).take() == 5
    clock.wall_now += jump
    assert worker.take() == 2


def test_a_clock_that_stays_behind_ends_no_period_early(worker, clock):
    worker.take(cost=5)
    for _ in range(5):
        clock.wall_now -= 2 * HOUR
        assert worker.take() < 0


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_book_that_cannot_be_opened_is_tried_again_after_a_second(clock, tmp_path):
    tries = []

    def ledger() -> Ledger:
        tries.append(clock.now)
        if len(tries) < 3:
            raise StateError("no room")
        return Ledger(tmp_path)

    quota = Quota("plan", 5, Calendar("day"), ledger, clock.wall)
    spot = quota.spot(b"a", OWN)
    for expected in (1, 1, 2):
        with pytest.raises(QuotaError, match="the book of plan cannot be opened: no room"):
            quota.take(spot, 1, round(clock.now * 1e9))
        assert len(tries) == expected
        clock.advance(0.6)
    clock.advance(0.5)
    assert quota.take(spot, 1, round(clock.now * 1e9)) == 1


def test_the_old_book_is_no_substitute_for_the_new(worker, clock, monkeypatch):
    worker.take()
    monkeypatch.setattr(ledgers, "create", lambda path, period: (_ for _ in ()).throw(OSError(28, "No space left")))
    clock.advance(DAY)
    with pytest.raises(QuotaError, match="No space left"):
        worker.take()


def test_a_caller_for_whom_there_is_no_room_is_not_let_through_uncounted(worker, monkeypatch, caplog):
    worker.take()
    monkeypatch.setattr(Book, "row", lambda book, key, place: (_ for _ in ()).throw(BookFull("no room")))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(QuotaError) as error:
                worker.take(b"b")
    assert (error.value.reply.status, error.value.reply.code) == (503, "quota_unavailable")
    assert worker.take() == 2
    assert [each.getMessage() for each in caplog.records] == ["plan cannot count another caller: no room"]


def test_complaints_are_made_once_a_minute(clock, tmp_path, caplog):
    def nowhere() -> Ledger:
        raise StateError("no disk")

    quota = Quota("plan", 5, Calendar("day"), nowhere, clock.wall)
    with caplog.at_level(logging.ERROR):
        for _ in range(121):
            with pytest.raises(QuotaError):
                quota.take(quota.spot(b"a", OWN), 1, round(clock.now * 1e9))
            clock.advance(1)
    assert [each.getMessage() for each in caplog.records] == ["the book of plan cannot be opened: no disk"] * 3


# -- bursts at edges --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_book_is_kept() -> Iterator[None]:
    """However many others were opened since."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "KEPT", 1_000)
        yield


Steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([0.0, 0.0, 0.5, 600.0, 3_600.0, -600.0, -3_600.0, 90_000.0, -90_000.0]),
        st.sampled_from([b"a", b"b"]),
        st.integers(1, 3),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=20, deadline=None)
@given(Steps, st.integers(1, 6))
def test_no_period_lets_more_through_than_its_limit(tmp_path_factory, every_book_is_kept, steps, limit):
    """Four workers that come and go, a clock that is set ahead and back: each period is counted by itself, exactly."""
    state, clock, hourly = tmp_path_factory.mktemp("state"), FakeClock(wall=NOON - 1), Calendar("hour")
    workers: dict[int, Worker] = {}
    counted: Counter[tuple[int, bytes]] = Counter()
    for number, seconds, key, cost, dies in steps:
        clock.now += 0.001
        clock.wall_now += seconds
        if dies:
            workers.pop(number, None)
        if number not in workers:
            workers[number] = Worker(state, clock, limit, hourly)
        start = hourly.period(clock.wall()).start
        fits = counted[start, key] + cost <= limit
        assert (workers[number].take(key, cost) >= 0) is fits
        counted[start, key] += cost if fits else 0


def in_processes(count: int, state: Path, seconds: float) -> Iterator[dict[int, int]]:
    """What each process let through, by the beginning of the period, in so long a burst. A minute takes 60 ms."""
    begin, pipes = time.monotonic() + 0.1, [os.pipe() for _ in range(count)]
    for _, end in pipes:

        def work(end: int = end) -> None:
            quota = Quota(
                "plan", 500, Calendar("minute"), cache(partial(Ledger, state)), lambda: time.monotonic() * 1_000
            )
            spot, through = quota.spot(b"a", OWN), Counter[int]()
            while (now := time.monotonic()) < begin + seconds:
                if now > begin and quota.take(spot, 1, int(now * 1e9)) >= 0:
                    through[quota.period.start] += 1
            os.write(end, json.dumps(through).encode())

        forked(work)
    for end, other in pipes:
        os.close(other)
        with os.fdopen(end, "rb") as results:
            yield {int(start): through for start, through in json.load(results).items()}
        os.wait()


def test_bursts_of_processes_over_edges_are_counted_exactly(tmp_path):
    total = Counter[int]()
    for through in in_processes(4, tmp_path, 0.5):
        total.update(through)
    assert len(total) >= 5
    assert max(total.values()) <= 500
    assert sorted(total.values())[len(total) // 2] == 500  # all of it was there for them, at the least in most
