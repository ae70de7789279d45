"""Workers in one process: contexts that share an arena, each with a column of its own."""

from __future__ import annotations

import os
from collections.abc import Callable

from gatewayd.core.arena import Arena
from gatewayd.core.clock import Clock, FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.limits.table import Sizes
from tests.support.forked import forked

SECOND = 1_000_000_000
FEW = Sizes(8, 4, 16)
"""Rows of a table that is soon full."""


def contexts(
    count: int, arena: Arena | None = None, clock: Clock | None = None, columns: int = 8
) -> list[BuildContext]:
    """One for each worker."""
    arena, clock = arena or Arena(), clock or FakeClock()
    return [BuildContext("limit", arena=arena, clock=clock, worker=worker, workers=columns) for worker in range(count)]


def together(count: int, work: Callable[[int], int]) -> list[int]:
    """What `work(worker)` returns in processes that begin it at the same time; -1 for one that fails."""
    ready, go = os.pipe(), os.pipe()
    results = []
    for worker in range(count):
        done = os.pipe()

        def begin(worker: int = worker, done: tuple[int, int] = done) -> None:
            os.close(go[1])
            os.write(ready[1], b".")
            os.read(go[0], 1)  # its end is the signal
            os.write(done[1], b"%d" % work(worker))

        forked(begin)
        os.close(done[1])
        results.append(done[0])
    for _ in range(count):
        os.read(ready[0], 1)
    os.close(go[1])
    found = [int(os.read(result, 32)) for result in results]
    for _ in range(count):
        assert os.wait()[1] == 0
    for descriptor in (*ready, go[0], *results):
        os.close(descriptor)
    assert -1 not in found
    return found
