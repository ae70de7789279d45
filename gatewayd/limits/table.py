"""Counters that all workers share: rows of 64-bit cells, each written by one worker alone, found by what is counted.

Keys of bounded sets (consumers, their credentials, routes) get a row of their own when they are first seen. All other
keys, which callers make up as they like, share rows: those of callers that are identified one range of them, strangers
another. Which row is a keyed hash, its secret made with the table, so nobody outside can aim at somebody's row; and
however many keys strangers bring, they meet no row of anybody known.

A table is one region of the arena: a header, the directory of own rows (an index by hash, open addressing, and each
row's digest), then the rows. A worker writes only cells of its own column; what a row means is up to its user. Cells
are aligned, so the processor writes each in one piece.

    header   columns in use · own rows handed out · a secret · the process of each column · a note of each column
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeVar

from gatewayd.core.arena import ArenaFull
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError, Fault

OWN, IDENTIFIED, STRANGER = range(3)
"""Where a key's row is: its own; shared by keys of identified callers; shared by everybody else's."""
COLUMNS, OWN_ROWS = 0, 1
"""Places in the header: how many columns were ever in use, how many rows of their own were handed out."""
_SECRET, _OWNERS = 2, 8
_LINE = 8
"""Cells in a cache line; rows begin at one."""
_DIGEST = 16

Cells = Any
"""A `memoryview` of signed 64-bit numbers."""
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Sizes(NamedTuple):
    """How many rows of each kind there are; powers of two."""

    own: int = 1 << 17
    identified: int = 1 << 15
    strangers: int = 1 << 16


SIZES = Sizes()
_TINY = Sizes(8, 8, 8)


class Shape(NamedTuple):
    """A table's measures, in cells. `width`: of a row."""

    width: int
    columns: int
    sizes: Sizes = SIZES

    @property
    def slots(self) -> int:
        """Where the index begins: 32-bit slots, two for each own row."""
        return _up(_OWNERS + 2 * self.columns)

    @property
    def digests(self) -> int:
        """Where the digests of own rows begin."""
        return self.slots + self.sizes.own

    @property
    def rows(self) -> int:
        """Where the rows begin: own ones, then those of identified callers, then strangers'."""
        return _up(self.digests + self.sizes.own * _DIGEST // 8)

    @property
    def cells(self) -> int:
        """All of it."""
        return self.rows + sum(self.sizes) * self.width


class Table:
    """Rows of `width` cells. `cells[i]` is a signed number; `row` says where a key's row begins."""

    def __init__(
        self,
        memory: memoryview,
        shape: Shape,
        column: int,
        locked: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        process: int = 0,
    ) -> None:
        """`memory`: `8 * shape.cells` bytes, zero at first. `locked`: no other process is inside it meanwhile.

        `process` tells the writer of this column from one before it; 0: by the process' id.
        """
        self.cells: Cells = memory.cast("q")
        self.columns = shape.columns
        self.column = column
        self.note = _OWNERS + shape.columns + column
        """A cell of the header that is this column's own, for its user."""
        self._shape = shape
        self._locked = locked
        self._index = memory[8 * shape.slots : 8 * shape.digests].cast("I")
        self._digests = memory[8 * shape.digests : 8 * shape.rows]
        with locked():
            self.taken_over = self._take_column(process or os.getpid())
            """Whether another process wrote this column before, and died or went."""
            self._secret = self._shared_secret(memory)

    @classmethod
    def of(cls, context: BuildContext, name: str, width: int, sizes: Sizes = SIZES) -> Table:
        """The table `name` of a policy's instance. Where nothing is served it is a small one of this process alone.

        Raises `ConfigError` if the shared memory has no room for it.
        """
        arena = context.arena
        if arena is None:
            shape = Shape(_up(width), context.workers, _TINY)
            return cls(memoryview(bytearray(8 * shape.cells)), shape, context.worker)
        shape = Shape(_up(width), context.workers, sizes)
        try:
            region = arena.region(f"limits {context.instance} {name}", 8 * shape.cells)
        except ArenaFull as error:
            raise ConfigError([Fault("", str(error), hint="use fewer limits, or fewer workers")]) from error
        table = cls(region, shape, context.worker, arena.locked)
        context.show(table.figures)
        return table

    def figures(self) -> dict[str, int]:
        """How many keys have a row of their own, and how many can (`core.policy.Figures`)."""
        return {"keys": self.cells[OWN_ROWS], "keys_most": self._shape.sizes.own}

    def row(self, key: bytes, place: int) -> int:
        """Index of the first cell of the row of `key`. About 2 µs: remember it (`Memo`)."""
        digest = blake2b(key, digest_size=_DIGEST, key=self._secret).digest()
        number = int.from_bytes(digest[:8], "little")
        sizes = self._shape.sizes
        if place == OWN:
            at = self._own(digest, number)
        elif place == IDENTIFIED:
            at = sizes.own + number % sizes.identified
        else:
            at = sizes.own + sizes.identified + number % sizes.strangers
        return self._shape.rows + at * self._shape.width

    def clear(self, cell: int) -> None:
        """Make cell `cell` of every row zero. It must be one of this column."""
        rows, width = self._shape.rows, self._shape.width
        zeros = memoryview(bytes(8 * sum(self._shape.sizes))).cast("q")
        handed_out = self.cells[OWN_ROWS]
        self.cells[rows + cell : rows + handed_out * width : width] = zeros[:handed_out]
        shared = rows + self._shape.sizes.own * width
        self.cells[shared + cell :: width] = zeros[: sum(self._shape.sizes[1:])]

    def _take_column(self, process: int) -> bool:
        cells, owner = self.cells, _OWNERS + self.column
        before, cells[owner] = cells[owner], process
        cells[COLUMNS] = max(cells[COLUMNS], self.column + 1)
        return before not in (0, process)

    def _shared_secret(self, memory: memoryview) -> bytes:
        place = memory[8 * _SECRET : 8 * _OWNERS]
        if not any(place):
            place[:] = os.urandom(len(place))
        return bytes(place)

    def _own(self, digest: bytes, number: int) -> int:
        found, _ = self._look_up(digest, number)
        return found if found >= 0 else self._hand_out(digest, number)

    def _look_up(self, digest: bytes, number: int) -> tuple[int, int]:
        """(The key's own row or -1, where the search ended in the index). Needs no lock: what stands there stays."""
        index, digests = self._index, self._digests
        slot = number % len(index)
        while found := index[slot]:
            if digests[_DIGEST * (found - 1) : _DIGEST * found] == digest:
                return found - 1, slot
            slot = (slot + 1) % len(index)
        return -1, slot

    def _hand_out(self, digest: bytes, number: int) -> int:
        """A row for a key seen for the first time. When all are handed out, the key shares one of them."""
        with self._locked():
            found, slot = self._look_up(digest, number)
            if found >= 0:
                return found
            at: int = self.cells[OWN_ROWS]
            if at == self._shape.sizes.own:
                return number % at
            self.cells[OWN_ROWS] = at + 1
            self._digests[_DIGEST * at : _DIGEST * (at + 1)] = digest
            self._index[slot] = at + 1  # last: from here on others find it
            return at


class Memo(dict[K, V], Generic[K, V]):
    """What a worker found for the keys it met lately. It begins anew when it is full: one clearing costs no request."""

    def __init__(self, find: Callable[[K], V], most: int = 1 << 14) -> None:
        super().__init__()
        self._find = find
        self._most = most

    def __missing__(self, key: K) -> V:
        if len(self) >= self._most:
            self.clear()
        found = self[key] = self._find(key)
        return found


def _up(cells: int) -> int:
    return -(-cells // _LINE) * _LINE
