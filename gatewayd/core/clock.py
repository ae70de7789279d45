"""Time as the data path sees it: monotonic seconds for deadlines, wall-clock seconds for records."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What needs the time is handed one of these, so that tests can move it."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch; may jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1_000.0, wall: float = 1_800_000_000.0) -> None:
        self.now = now
        self.wall_now = wall

    def monotonic(self) -> float:
        """Seconds, as last set."""
        return self.now

    def wall(self) -> float:
        """Seconds since the epoch, as last set."""
        return self.wall_now

    def advance(self, seconds: float) -> None:
        """Move both clocks on."""
        self.now += seconds
        self.wall_now += seconds
