"""Memory that all processes of the daemon see: who writes which row is fixed, so nobody needs a lock."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable

OTHER = "(other)"
"""Name of the row of what has none of its own; no route can be called so."""


def create(size: int) -> int:
    """A descriptor of `size` zeroed bytes, to be inherited by the workers and the control process."""
    descriptor = os.memfd_create("gatewayd-cells")
    os.ftruncate(descriptor, size)
    return descriptor


def attach(descriptor: int) -> memoryview:
    """The memory behind a descriptor made by `create`. The descriptor is closed; the memory stays."""
    size = os.fstat(descriptor).st_size
    view = memoryview(mmap.mmap(descriptor, size))
    os.close(descriptor)
    return view


class Slots:
    """Route names and their rows, given out in order and never taken back, so that a counter only ever grows.

    `rows` is how many there are. Row 0 is `OTHER`: what matches no route, and the routes for which no row was
    left.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._given: dict[str, int] = {OTHER: 0}

    def assign(self, names: Iterable[str]) -> dict[str, int]:
        """Each of `names` with its row."""
        return {name: self._row(name) for name in names}

    def names(self) -> dict[str, int]:
        """Everything given out so far, `OTHER` included."""
        return dict(self._given)

    def _row(self, name: str) -> int:
        row = self._given.get(name)
        if row is None:
            row = len(self._given)
            if row >= self._rows:
                return 0
            self._given[name] = row
        return row
