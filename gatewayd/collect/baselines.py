"""What is usual, without I/O: hours of the week, medians and their spread, and how far from it a value is.

Each metric is looked at on a scale on which its spread does not depend on its level: logarithms of rates, sizes and
times, and the arcsine of shares (Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial data").
There a value x is `|x - median| / σ` away from the median of the same hour of past weeks. σ² has two parts: the spread
of the subject itself, 1.4826 times the median absolute deviation with a floor, and the noise of a count of this size.
1.4826 makes it the standard deviation where values are normally distributed (Rousseeuw and Croux 1993).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from statistics import median
from typing import NamedTuple

HOUR, DAY = 3_600, 86_400
SLOTS = 168
"""Hours of a week, from Monday's first."""
NORMAL = 1.4826
"""Median absolute deviations to standard deviations."""
DAYS_BACK = 14
"""How far the hour of the day is looked for, where too few weeks are known."""
ENOUGH_DAYS = 5
"""Of these, before an hour of the day counts as known."""
TAIL_MARGIN = 1.2
"""A subject's own worst deviations, times this, must be exceeded as well."""
CROWD = 8
"""Subjects that must deviate together before that counts as one cause of all."""


@dataclass(frozen=True)
class Scale:
    """How a metric is looked at; y is a value on its scale."""

    metric: str
    sql: str
    """y of a row of `usual_1h`; NULL: nothing can be said of that hour."""
    noise: str
    """The variance that a count of this size has by chance, of a row with y, and m the median of y."""
    floor: float
    """The least spread, on the scale."""
    drift: float
    """By how much of the last week's deviation the median is moved at most: growth, and lasting small changes."""
    down: bool = False
    """Whether too little is a finding as well."""


SCALES = (
    Scale("rate", "ln(calls + 8)", "exp(-m)", 0.15, 0.7, down=True),
    Scale("errors", "CASE WHEN calls >= 20 THEN 2 * asin(sqrt((s4xx + s5xx) / calls)) END", "1 / calls", 0.04, 0.0),
    Scale("bytes", "CASE WHEN calls >= 5 THEN ln(bytes / calls + 64) END", "2 / calls", 0.1, 0.4),
    Scale("latency", "CASE WHEN calls >= 20 THEN p95 END", "2 / calls", 0.06, 0.2),
)
"""`p95` is the natural logarithm of microseconds already."""


def deviation(mad: float, spread: float, floor: float, noise: float) -> float:
    """σ: of the hour's own spread, the subject's and the floor the largest, and beside it the noise (a variance)."""
    return math.sqrt(max(NORMAL * mad, spread, floor) ** 2 + noise)


class Level(NamedTuple):
    """What is known of a subject's metric at an hour, all on the metric's scale."""

    value: float
    median: float
    mad: float
    noise: float
    spread: float
    """The subject's over all hours."""
    tail_up: float
    """How far it went on the third wildest day, in σ."""
    tail_down: float
    drift: float
    low: float
    """The least of the medians of the hour and of those before and behind it: what comes an hour early or late …"""
    high: float
    """… is nothing unusual. The largest of them."""

    @property
    def expected(self) -> float:
        """The median, moved with the last week."""
        return self.median + self.drift

    @property
    def distance(self) -> float:
        """From what is expected."""
        return self.value - self.expected

    @property
    def beyond(self) -> float:
        """From what would be expected an hour earlier or later, too."""
        value = self.value - self.drift
        return value - self.high if value > self.high else min(0.0, value - self.low)


def score(level: Level, threshold: float, floor: float, common: float = 0.0) -> float:
    """How far it is from the usual, as a multiple of what is too far; below 0: too little.

    `common` is by how much all subjects deviate together: so much is explained, half of it doubtful.
    """
    distance = level.beyond
    explained = math.copysign(min(abs(common), abs(distance)), distance) if common * distance > 0 else 0.0
    sigma = math.hypot(deviation(level.mad, level.spread, floor, level.noise), common / 2)
    tail = level.tail_up if distance > 0 else level.tail_down
    return (distance - explained) / sigma / max(threshold, TAIL_MARGIN * tail)


def common_cause(distances: Collection[float]) -> float:
    """By how much subjects deviate together; 0 if they are few."""
    return median(distances) if len(distances) >= CROWD else 0.0


class Calendar:
    """Hours of the week as people keep them in a time zone; holidays are Sundays."""

    def __init__(self, zone: tzinfo, holidays: Collection[str] = ()) -> None:
        """`holidays` are dates, "2026-12-25"."""
        self._zone = zone
        self._holidays = {date.fromisoformat(day) for day in holidays}

    def local(self, second: int) -> datetime:
        """The local time."""
        return datetime.fromtimestamp(second, UTC).astimezone(self._zone)

    def slot(self, hour: int) -> int:
        """The hour of the week, 0 to 167, of the hour that begins at second `hour`."""
        local = self.local(hour)
        return self._weekday(local) * 24 + local.hour

    def weekly(self, hour: int, weeks: int) -> list[int]:
        """The beginnings of the same hour of the week in `weeks` weeks before, the latest first."""
        wanted = self.slot(hour)
        if self._is_holiday(self.local(hour)):  # like a Sunday, whatever weekday it is
            found = (hour - day * DAY for day in range(1, 7 * weeks + 1))
        else:
            found = (hour - 7 * week * DAY for week in range(1, weeks + 1))
        return [each for each in (self._same_hour(each, hour) for each in found) if self.slot(each) == wanted]

    def daily(self, hour: int) -> list[int]:
        """The beginnings of the same hour on days before of the same kind: working days, Saturdays, Sundays."""
        kind = self._kind(hour)
        found = (self._same_hour(hour - day * DAY, hour) for day in range(1, DAYS_BACK + 1))
        return [each for each in found if self._kind(each) == kind]

    def _kind(self, hour: int) -> int:
        return max(4, self._weekday(self.local(hour)))

    def _same_hour(self, second: int, hour: int) -> int:
        """`second` moved to the local hour of `hour`, should clocks have changed in between."""
        offset = self.local(hour).utcoffset() or timedelta()
        return second + int((offset - (self.local(second).utcoffset() or timedelta())).total_seconds())

    def _is_holiday(self, local: datetime) -> bool:
        return local.date() in self._holidays

    def _weekday(self, local: datetime) -> int:
        return 6 if self._is_holiday(local) else local.weekday()
