"""What was made invalid, in memory that all workers share: each has a cache of its own, and one change ends it in all.

A URI has a row, chosen by a keyed hash so that nobody can aim at another's; several URIs share one. In a row each
worker counts up its own cell alone. A stored reply remembers the row's sum as it was before it was asked for: another
sum later means that something of the row was changed since, or while the reply was on its way.
"""

from __future__ import annotations

import os
from hashlib import blake2b

from gatewayd.core.arena import Arena

ROWS = 1 << 15
_SEED = 16


class Stamps:
    """The rows, `workers` cells each; this worker writes in column `worker`."""

    __slots__ = ("_cells", "_seed", "_worker", "_workers")

    def __init__(self, arena: Arena | None, worker: int = 0, workers: int = 1) -> None:
        """Without `arena` this worker is alone."""
        size = ROWS * workers * 8
        memory = memoryview(bytearray(size)) if arena is None else arena.region("cache stamps", size)
        self._cells = memory.cast("Q")
        self._seed = os.urandom(_SEED) if arena is None else _shared_seed(arena)
        self._worker = worker
        self._workers = workers

    def row(self, host: bytes, path: bytes, query: bytes | None) -> int:
        """Where the row of a URI begins."""
        uri = b"%b\0%b\0%b" % (host, path, b"-" if query is None else b"?" + query)
        digest = blake2b(uri, digest_size=8, key=self._seed).digest()
        return int.from_bytes(digest, "little") % ROWS * self._workers

    def read(self, row: int) -> int:
        """The sum of a row, which only grows."""
        return sum(self._cells[row : row + self._workers])

    def change(self, row: int) -> None:
        """End everything stored under the row, in all workers."""
        self._cells[row + self._worker] += 1


def _shared_seed(arena: Arena) -> bytes:
    """The hash's key, made by whoever comes first."""
    memory = arena.region("cache seed", _SEED)
    with arena.locked():
        if not any(memory):
            memory[:] = os.urandom(_SEED)
    return bytes(memory)
