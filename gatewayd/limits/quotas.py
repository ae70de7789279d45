"""A quota: how much may be used in a calendar period, counted in books that outlive the daemon.

Every period has a book of its own, and the clock says which is open. So a clock that is set back finds what was used
then, and grants nothing twice; one that jumped ahead and comes back finds everything as it was.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from gatewayd.core.policy import Undecided
from gatewayd.core.problem import problem
from gatewayd.errors import GatewaydError
from gatewayd.limits.book import ROWS, Book
from gatewayd.limits.calendar import Calendar, Period
from gatewayd.limits.fields import SECOND
from gatewayd.limits.ledger import Ledger
from gatewayd.limits.table import OWN

MOST = 1 << 53
"""The largest limit: what every reader of JSON takes for the same number."""
UNAVAILABLE = problem(
    503, "quota_unavailable", "it cannot be told now how much is left of a quota", ((b"retry-after", b"1"),)
)

_log = logging.getLogger(__name__)
_NO_PERIOD = Period(0, 0)
_QUIET = 60 * SECOND
"""Nanoseconds between two complaints."""


class QuotaError(Undecided):
    """Nothing can be counted: no book can be opened, or it has no room for another caller. The text says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(UNAVAILABLE)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Spot:
    """Where a key counts: its row in the book that was open at `turn`."""

    __slots__ = ("at", "key", "place", "turn")

    def __init__(self, key: bytes, place: int) -> None:
        self.key = key
        self.place = place
        self.turn = 0
        self.at = 0


class Quota:
    """At most `limit` in each of the calendar's periods; a `limits.rate.Counter`."""

    def __init__(
        self,
        instance: str,
        limit: int,
        calendar: Calendar,
        ledger: Callable[[], Ledger],
        wall: Callable[[], float],
    ) -> None:
        """`ledger` is asked for when the first book is opened; `wall` tells seconds since the epoch."""
        self.limit = limit
        self._instance = instance
        self._calendar = calendar
        self._ledger = ledger
        self._wall = wall
        self.period = _NO_PERIOD
        self._book: Book | None = None
        self.turn = 0  # how many books were opened
        self._turned = 0  # nanosecond of the last time
        self._failed: tuple[int, str] = (0, "")  # until which nanosecond not to try again, and why
        self._quiet_until = 0

    def spot(self, key: bytes, place: int) -> Spot:
        """Where the key counts (`limits.table`)."""
        return Spot(key, place)

    def take(self, spot: Spot, cost: int, now: int) -> int:
        """Count `cost` at monotonic nanosecond `now`: what is used of the period then, from 0 on.

        Without room nothing is counted: minus the nanoseconds to the next period. Raises `QuotaError`.
        """
        wall = self._wall()
        start, end = self.period
        if not start <= wall < end:
            self.open(wall, now)
        book: Book = self._book  # type: ignore[assignment]
        if spot.turn != self.turn:
            self._find(spot, book, now)
        used = book.take(spot.at, cost, self.limit)
        return used if used >= 0 else -self.wait()

    def give_back(self, spot: Spot, cost: int, when: int) -> None:
        """Undo what was taken at nanosecond `when`, unless its period is over: nobody could use it any more."""
        if when >= self._turned and self._book is not None:
            self._book.give_back(spot.at, cost)

    def wait(self) -> int:
        """Nanoseconds to the next period."""
        return max(1, math.ceil((self.period.end - self._wall()) * SECOND))

    def left(self, used: int) -> tuple[int, int]:
        """(What there is room for, seconds to the next period) after `take` said `used`."""
        return self.limit - used, max(1, math.ceil(self.period.end - self._wall()))

    def used(self, spot: Spot, now: int) -> int:
        """How much is used at nanosecond `now`; asking counts nothing. Raises `QuotaError`."""
        wall = self._wall()
        if not self.period.start <= wall < self.period.end:
            self.open(wall, now)
        assert self._book is not None
        return self._book.used_by(spot.key, spot.place)

    def own(self, spot: Spot) -> int:
        """The part of it that stands in this process' column of the open book."""
        return self._book.own(spot.at) if self._book is not None and spot.turn == self.turn else 0

    def total(self, spot: Spot) -> int:
        """What stands in all columns of the open book."""
        return self._book.used(spot.at) if self._book is not None and spot.turn == self.turn else 0

    def figures(self) -> dict[str, int]:
        """How many keys have a row of their own in the open book, and how many can (`core.policy.Figures`)."""
        return {"keys": self._book.keys() if self._book is not None else 0, "keys_most": ROWS[OWN]}

    @property
    def member(self) -> bytes:
        """Tells that column from those of all other books, on other machines too."""
        return self._book.member if self._book is not None else b""

    def open(self, wall: float, now: int) -> None:
        """Open the book of the period that `wall` lies in. Raises `QuotaError`; then it is not tried for a second."""
        until, reason = self._failed
        if now < until:
            raise QuotaError(reason)
        period = self._calendar.period(wall)
        try:
            self._book = self._ledger().book(self._instance, period)
        except (OSError, GatewaydError) as error:
            reason = f"the book of {self._instance} cannot be opened: {error}"
            self._failed = now + SECOND, reason
            raise self._complaint(reason, now) from error
        self.period = period
        self.turn += 1
        self._turned = now

    def _find(self, spot: Spot, book: Book, now: int) -> None:
        """See where in the open book it counts."""
        try:
            spot.at = book.row(spot.key, spot.place)
        except (OSError, GatewaydError) as error:
            raise self._complaint(f"{self._instance} cannot count another caller: {error}", now) from error
        spot.turn = self.turn

    def _complaint(self, reason: str, now: int) -> QuotaError:
        """What to raise; now and then it is logged."""
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            _log.error("%s", reason)
        return QuotaError(reason)
