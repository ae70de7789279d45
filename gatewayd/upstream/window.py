"""A sliding count: how often something happened over the last seconds, in constant memory."""

from __future__ import annotations

from collections import deque
from math import inf


class Window:
    """Counts over the last `seconds`, to the slice: the running slice and the full ones before it.

    One counter only grows; its value at each slice's start is remembered, and the window is a difference.
    """

    __slots__ = ("_marks", "_slice", "_turns_at", "count")

    def __init__(self, seconds: float, slices: int = 10) -> None:
        """`seconds` > 0. The window is shorter than that by less than `seconds / slices`, never longer."""
        self.count = 0  # since ever
        self._slice = seconds / slices
        self._turns_at = -inf
        self._marks = deque([0] * slices, slices)  # the count where each slice began, the running one last

    def add(self, now: float) -> None:
        """It happened once, at `now`."""
        if now >= self._turns_at:
            self._turn(now)
        self.count += 1

    def total(self, now: float) -> int:
        """How often it happened over the window that ends at `now`."""
        if now >= self._turns_at:
            self._turn(now)
        return self.count - self._marks[0]

    def clear(self) -> None:
        """Forget what happened; `count` stays."""
        self._marks.extend([self.count] * len(self._marks))

    def carry_over(self, old: Window) -> None:
        """Go on from where `old`, of the same length, stands."""
        self.count, self._slice, self._turns_at = old.count, old._slice, old._turns_at
        self._marks = old._marks.copy()

    def _turn(self, now: float) -> None:
        if self._turns_at == -inf:
            self._turns_at = now + self._slice
            return
        passed = int((now - self._turns_at) / self._slice) + 1
        self._marks.extend([self.count] * min(passed, len(self._marks)))
        self._turns_at += passed * self._slice
