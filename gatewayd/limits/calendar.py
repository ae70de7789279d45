"""Calendar periods of a time zone: they lie end to end, without gap or overlap, whatever its clocks do.

Minutes and hours are 60 and 3,600 seconds, always. Longer ones begin at a time of day on a date, and so are an hour
longer or shorter where clocks change. A time of day that comes twice on its date counts the first time; one that the
clocks jump over counts as much later as they jump (02:30 is then 03:30). A date that a zone left out has no period.
"""

from __future__ import annotations

import math
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple

Per = Literal["minute", "hour", "day", "week", "month", "quarter", "year"]

ANCHOR = datetime(2001, 1, 1)
"""Midnight of a Monday that begins a month, a quarter and a year: where periods are counted from unless said."""

_FIXED = {"minute": 60, "hour": 3600}  # seconds
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_NOMINAL = {**_DAYS, "month": 30, "quarter": 91, "year": 365}  # days
SECONDS = {**_FIXED, **{per: 86_400 * days for per, days in _NOMINAL.items()}}
"""Nominal lengths, where one number must do for all periods of a kind."""


class Period(NamedTuple):
    """From `start` to right before `end`, in seconds since the epoch."""

    start: int
    end: int


class Calendar:
    """The periods of one length in `zone`. One of them begins at `starts`, a local time, and all others like it.

    In a month that is too short for its date a period begins on the last day.
    """

    def __init__(self, per: Per, zone: tzinfo = UTC, starts: datetime = ANCHOR) -> None:
        self.per = per
        self._zone = zone
        self._starts = starts
        self._origin = self._instant(starts)
        self._begin: Callable[[int], datetime] = self._months_on if per in _MONTHS else self._days_on

    def period(self, wall: float) -> Period:
        """The period that `wall` (seconds since the epoch) lies in."""
        second = math.floor(wall)
        if self.per in _FIXED:
            length = _FIXED[self.per]
            start = second - (second - self._origin) % length
            return Period(start, start + length)
        number = self._guess(datetime.fromtimestamp(second, self._zone).replace(tzinfo=None))
        while self._boundary(number) > second:
            number -= 1
        while self._boundary(number + 1) <= second:
            number += 1
        return Period(self._boundary(number), self._boundary(number + 1))

    def _guess(self, local: datetime) -> int:
        """Which period, from the one at `starts`, a local time lies in; one off at most."""
        starts = self._starts
        if self.per in _MONTHS:
            return (12 * (local.year - starts.year) + local.month - starts.month) // _MONTHS[self.per]
        return (local - starts) // timedelta(days=_DAYS[self.per])

    def _boundary(self, number: int) -> int:
        return self._instant(self._begin(number))

    def _days_on(self, number: int) -> datetime:
        return self._starts + timedelta(days=number * _DAYS[self.per])

    def _months_on(self, number: int) -> datetime:
        starts = self._starts
        year, month = divmod(12 * starts.year + starts.month - 1 + number * _MONTHS[self.per], 12)
        day = min(starts.day, monthrange(year, month + 1)[1])
        return starts.replace(year=year, month=month + 1, day=day)

    def _instant(self, local: datetime) -> int:
        """Seconds since the epoch at a local time, the first of two (PEP 495: `fold=0`)."""
        return math.floor(local.replace(tzinfo=self._zone, fold=0).timestamp())
