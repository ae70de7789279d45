"""Token buckets in shared memory, exact over all workers without a lock.

A bucket is GCRA's one number, the time at which it would be full again, taken apart so that each cell has one writer
and only grows. For a worker's column: `spent`, nanoseconds of refilling that its requests took in all, and `idle`, the
largest `now - sum(spent)` it saw when the bucket was full. The bucket lacks `max(idle) + sum(spent) - now`; zeroed
memory is a full bucket.

To take, a worker first writes its `claimed` cell, then reads the row, then decides: of two workers that want the last
token, one at least sees the other. If there is no room it takes the claim back. What was only claimed is no part of
`idle`, so no worker's standing still between two steps lets a token be given out twice. Two that gave way to each other
try again. Cells are written in the order `idle`, `spent`, end of the claim, so that whoever misses the claim finds the
rest, and read in the order claim, `spent`, `idle`.

A rate that a reload changes costs nothing: the cells are times, and go on meaning what they say.
"""

from __future__ import annotations

from struct import Struct
from threading import Lock
from typing import NamedTuple

from gatewayd.core.policy import BuildContext
from gatewayd.limits.fields import SECOND
from gatewayd.limits.table import COLUMNS, Table

_CELLS = 3  # claimed, spent, idle
_ROUNDS = 3
"""Times that workers which gave way to each other try again."""


class Spot(NamedTuple):
    """Where a key's row stands for one worker: its own first cell, and the row's first byte."""

    mine: int
    at: int


class Bucket:
    """The buckets of one limit. What is used of one is told in nanoseconds of refilling."""

    def __init__(self, table: Table, each: int, burst: int) -> None:
        """`each`: nanoseconds in which one request's worth comes in. `burst`: requests that a full bucket holds."""
        self.limit = burst
        self._each = each
        self._depth = each * burst
        self._table = table
        self._cells = table.cells
        self._note = table.note
        in_use = (max(columns, 2) for columns in range(table.columns + 1))
        self._read = tuple(Struct(f"{_CELLS * columns}q").unpack_from for columns in in_use)
        lock = Lock()
        self._acquire, self._release = lock.acquire, lock.release
        if table.taken_over:
            self._end_claim_of_the_dead()

    @classmethod
    def of(cls, context: BuildContext, each: int, burst: int) -> Bucket:
        """The buckets of a policy's instance."""
        return cls(Table.of(context, "bucket", _CELLS * context.workers), each, burst)

    def spot(self, key: bytes, place: int) -> Spot:
        """Where the key counts (`limits.table`)."""
        row = self._table.row(key, place)
        return Spot(row + _CELLS * self._table.column, 8 * row)

    def take(self, spot: Spot, cost: int, now: int, rounds: int = _ROUNDS) -> int:
        """Take what `cost` requests are worth at monotonic nanosecond `now`: what the bucket lacks then, from 0 on.

        Without room nothing is taken: minus the nanoseconds until there will be.
        """
        mine, at = spot
        claim = cost * self._each
        cells = self._cells
        cells[self._note] = mine
        cells[mine] = claim
        self._acquire()  # a locked instruction: who reads from here on finds the claim, or is found
        self._release()
        found = self._read[cells[COLUMNS]](cells, at)
        if len(found) == 6:  # 0.3 µs less than below
            claimed, spent, seen_idle, others_claim, others_spent, others_idle = found
            claimed += others_claim
            spent += others_spent
            if others_idle > seen_idle:
                seen_idle = others_idle
        else:
            claimed, spent, seen_idle = sum(found[::3]), sum(found[1::3]), max(found[2::3])
        idle = now - spent
        if idle < seen_idle:
            idle = seen_idle
        lacking: int = idle + spent + claimed - now
        if lacking > self._depth:
            cells[mine] = 0
            if rounds and lacking - claimed + claim <= self._depth:
                return self.take(spot, cost, now, rounds - 1)
            return self._depth - lacking
        if idle != seen_idle:
            cells[mine + 2] = idle
        cells[mine + 1] += claim
        cells[mine] = 0
        return lacking

    def used(self, spot: Spot, now: int) -> int:
        """What the bucket lacks at monotonic nanosecond `now`."""
        found = self._read[self._cells[COLUMNS]](self._cells, spot.at)
        spent = sum(found[1::3])
        return int(max(now - spent, *found[2::3]) + spent + sum(found[::3]) - now)

    def give_back(self, spot: Spot, cost: int, when: int) -> None:
        """Undo `take`, at once or later; a bucket never holds more than its burst."""
        self._cells[spot.mine + 1] -= cost * self._each

    def left(self, used: int) -> tuple[int, int]:
        """(Requests there is room for, seconds until there is room for all) after `take` said `used`."""
        return (self._depth - used) // self._each, -(-used // SECOND)

    def _end_claim_of_the_dead(self) -> None:
        """The process that wrote this column before may have died between a claim and its end."""
        mine = self._cells[self._note]
        if mine:
            self._cells[mine] = 0
