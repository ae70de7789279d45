"""How many exchanges are under way for a key, over all workers.

A row has a cell per worker, which it raises when an exchange begins and lowers when it ends. To begin, it raises first,
then reads the row, then decides, and lowers again if it was one too many. A process that follows one that died clears
that one's column: its exchanges ended with it.
"""

from __future__ import annotations

from struct import Struct
from threading import Lock

from gatewayd.core.policy import BuildContext
from gatewayd.limits.table import COLUMNS, Table

_ROUNDS = 3
"""Times that workers which gave way to each other try again."""


class InFlight:
    """Exchanges under way, for each key at most `limit`."""

    def __init__(self, table: Table, limit: int) -> None:
        self.limit = self._limit = limit
        self._table = table
        self._cells = table.cells
        self._read = tuple(Struct(f"{columns}q").unpack_from for columns in range(table.columns + 1))
        lock = Lock()
        self._acquire, self._release = lock.acquire, lock.release
        if table.taken_over:
            table.clear(table.column)

    @classmethod
    def of(cls, context: BuildContext, limit: int) -> InFlight:
        """The exchanges counted by a policy's instance."""
        return cls(Table.of(context, "in flight", context.workers), limit)

    def spot(self, key: bytes, place: int) -> int:
        """Where the key counts (`limits.table`): its row."""
        return self._table.row(key, place)

    def begin(self, spot: int, rounds: int = _ROUNDS) -> int:
        """One more: how many are under way with it, or 0 if there is no room for it."""
        cells = self._cells
        mine = spot + self._table.column
        cells[mine] += 1
        self._acquire()  # a locked instruction: who reads from here on finds this one, or is found
        self._release()
        count = self.count(spot)
        if count <= self._limit:
            return count
        cells[mine] -= 1
        if rounds and self.count(spot) < self._limit:  # two gave way to each other
            return self.begin(spot, rounds - 1)
        return 0

    def end(self, spot: int) -> None:
        """One that began is over."""
        self._cells[spot + self._table.column] -= 1

    def count(self, spot: int) -> int:
        """How many are under way."""
        return sum(self._read[self._cells[COLUMNS]](self._cells, 8 * spot))
