"""Sliding windows in shared memory: in no window of the period's length is more let through than the limit.

Time is cut into slices, `SLICES` to a period. A cell counts what one worker let through in one slice, and says which
slice that is. What counts is the running slice and the full ones before it, so a request is forgotten between one
period and one slice more after it came: the limit is never exceeded, and is free again up to a slice's length late.

To take, a worker adds to its own cell of the running slice, then reads the cells of all, then decides; if there is no
room it takes that back. Of two workers that want the last of it one at least sees the other. The slices before are
summed once per slice and key, for nothing is added to a slice that is over: who finds after its claim that the slice
has ended begins again in the next.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from threading import Lock

from gatewayd.core.policy import BuildContext
from gatewayd.limits.fields import SECOND
from gatewayd.limits.table import COLUMNS, Table

SLICES = 16
"""Slices in a period: a request stays counted for up to 1/16 of the period more."""
_BITS = 24
MOST = (1 << _BITS) - 1
"""The largest limit: what a cell has room for beside the slice's number."""
_ROUNDS = 3
"""Times that workers which gave way to each other try again."""
_RING = SLICES + 2  # one more than is read, so that a worker that is ahead overwrites nothing that is read


class Spot:
    """Where a key's row stands for one worker, and what it knows of the slices that are over."""

    __slots__ = ("earlier", "frees", "row", "slice")

    def __init__(self, row: int) -> None:
        self.row = row
        self.slice = -1
        self.earlier = 0  # what the full slices before `slice` count
        self.frees = 0  # nanosecond at which some of that is forgotten


class Window:
    """Windows of one limit: at most `limit` in any `period` nanoseconds."""

    def __init__(self, table: Table, limit: int, period: int, monotonic: Callable[[], float]) -> None:
        """`monotonic` tells seconds."""
        self.limit = self._limit = limit
        self._length = -(-period // SLICES)
        self._seconds = -(-period // SECOND)
        self._monotonic = monotonic
        self._table = table
        self._cells = table.cells
        self._own = _RING * table.column
        self._read = tuple(Struct(f"{_RING * columns}q").unpack_from for columns in range(table.columns + 1))
        lock = Lock()
        self._acquire, self._release = lock.acquire, lock.release

    @classmethod
    def of(cls, context: BuildContext, limit: int, period: int) -> Window:
        """The windows of a policy's instance."""
        table = Table.of(context, "window", _RING * context.workers)
        return cls(table, limit, period, context.clock.monotonic)

    def spot(self, key: bytes, place: int) -> Spot:
        """Where the key counts (`limits.table`)."""
        return Spot(self._table.row(key, place))

    def take(self, spot: Spot, cost: int, now: int, rounds: int = _ROUNDS) -> int:
        """Count `cost` at monotonic nanosecond `now`: what the window then holds, from 0 on.

        Without room nothing is counted: minus the nanoseconds until there may be.
        """
        number = now // self._length
        if spot.slice != number:
            self._turn(spot, number)
        if spot.earlier and spot.earlier + cost > self._limit:
            return now - spot.frees
        cells = self._cells
        first = spot.row + number % _RING
        mine = first + self._own
        empty = number << _BITS
        held = cells[mine]
        if held < empty:  # of a slice long gone
            held = empty
        cells[mine] = held + cost
        self._acquire()  # a locked instruction: who reads from here on finds the claim, or is found
        self._release()
        used = self._running(spot, first, empty)
        if used > self._limit:
            cells[mine] = held
            if rounds and self._running(spot, first, empty) + cost <= self._limit:  # two gave way to each other
                return self.take(spot, cost, now, rounds - 1)
            return now - (spot.frees if spot.earlier else (number + SLICES + 1) * self._length)
        later = self._monotonic() * 1e9
        if later // self._length > number:
            cells[mine] = held
            return self.take(spot, cost, round(later), rounds)
        return used

    def used(self, spot: Spot, now: int) -> int:
        """What the window holds at monotonic nanosecond `now`."""
        number = now // self._length
        if spot.slice != number:
            self._turn(spot, number)
        return self._running(spot, spot.row + number % _RING, number << _BITS)

    def give_back(self, spot: Spot, cost: int, when: int) -> None:
        """Undo what was taken at nanosecond `when`; if its slice is over, others see it when the next one is."""
        number = when // self._length
        mine = spot.row + number % _RING + self._own
        if self._cells[mine] >> _BITS == number:  # else it is forgotten anyway
            self._cells[mine] -= cost

    def left(self, used: int) -> tuple[int, int]:
        """(Requests there is room for, seconds until there is room for all) after `take` said `used`."""
        return self._limit - used, self._seconds

    def _running(self, spot: Spot, first: int, empty: int) -> int:
        """What the window holds: the slice whose cells stand from `first` on, and those before."""
        used, cells = spot.earlier, self._cells
        for at in range(first, first + _RING * cells[COLUMNS], _RING):
            cell = cells[at]
            if cell > empty:
                used += cell - empty
        return used

    def _turn(self, spot: Spot, number: int) -> None:
        """The first look at the slice `number`: sum the full ones before it."""
        spot.slice, spot.earlier = number, 0
        oldest, running = (number - SLICES) << _BITS, number << _BITS
        found = self._read[self._cells[COLUMNS]](self._cells, 8 * spot.row)
        counting = [cell for cell in found if oldest < cell < running]
        if counting:
            spot.earlier = sum(cell & MOST for cell in counting)
            leaves = min(cell >> _BITS for cell in counting if cell & MOST) if spot.earlier else number
            spot.frees = (leaves + SLICES + 1) * self._length
