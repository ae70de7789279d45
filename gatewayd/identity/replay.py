"""What has been shown once and must not be shown again, on the whole machine: identifiers of proofs and signatures.

A table in shared memory, of which each worker writes a column of its own. An identifier is written into the own column
first and looked for in all others then, so of two workers that are shown the same at the same instant one at least
sees the other's. Both may, and then both refuse. A processor may hold a store back for some nanoseconds; between the
writing and the looking the interpreter makes hundreds of stores, which leave in order on x86, so there is no gap in
which both could pass; elsewhere it is those nanoseconds wide. Several machines behind one address know nothing of each
other: there an identifier may pass once on each.

Nothing is forgotten before its time. Where there is no room, what comes is refused; and where room is scarce, a holder
that has half of it already is refused before others are (rows do not overlap, so half is never more). Identifiers stand
there as keyed hashes, so that nobody can choose where they go. A column outlives its worker: what a worker that died
had seen stays seen. With another number of cells or columns it is another table, and a daemon that was started anew has
an empty one. If there are ever more workers, draining ones included, than columns, some share the last, and one may
then overwrite a cell of another's.
"""

from __future__ import annotations

import math
import mmap
import os
from contextlib import nullcontext
from hashlib import blake2b
from typing import Literal

from gatewayd.core.arena import Arena

Verdict = Literal["", "replayed", "full"]

ROW = 64
"""Cells of which an identifier may take one, in each column; one holder has at most half of them."""
_ENTRY = 16
_MARK = 4
"""Bytes of an entry that tell its holder; the rest tells the identifier."""
_SECRET = 32
_EXPIRY = 4
"""Bytes of a time, seconds since the epoch."""


class _Column:
    """One worker's part: entries, and the second from which each is nobody's."""

    __slots__ = ("entries", "expiries")

    def __init__(self, memory: memoryview, cells: int) -> None:
        self.entries = memory[: cells * _ENTRY]
        self.expiries = memory[cells * _ENTRY :].cast("I")

    def row(self, at: int) -> bytes:
        """The entries of the row that begins at the cell `at`."""
        return self.entries[at * _ENTRY : (at + ROW) * _ENTRY].tobytes()

    def find(self, at: int, entry: bytes, now: float) -> bool:
        """Whether `entry` stands in that row, and its time is not over."""
        place = self.row(at).find(entry)
        return place >= 0 and self.expiries[at + place // _ENTRY] > now

    def claim(self, at: int, entry: bytes, expires: int, now: float) -> bool:
        """Write `entry` into a cell of that row that is nobody's. False: there is none, or its holder has its half."""
        expiries = self.expiries[at : at + ROW].tolist()
        free = next((number for number, until in enumerate(expiries) if until <= now), ROW)
        if free == ROW or self._has_half(self.row(at), entry[:_MARK], expiries, now):
            return False
        cell = at + free
        self.entries[cell * _ENTRY : (cell + 1) * _ENTRY] = entry
        self.expiries[cell] = expires
        return True

    def _has_half(self, row: bytes, mark: bytes, expiries: list[int], now: float) -> bool:
        if row.count(mark) < ROW // 2:  # nearly always; it counts what is over, too
            return False
        held = (row.startswith(mark, number * _ENTRY) for number, until in enumerate(expiries) if until > now)
        return sum(held) >= ROW // 2


class Replays:
    """The identifiers shown lately, as one worker sees and writes them."""

    def __init__(self, arena: Arena | None, name: str, cells: int, worker: int, columns: int) -> None:
        """`cells` per worker, of 20 bytes; `name` is what other workers' tables of the same identifiers are called.

        Without an arena this process is alone. Raises `core.arena.ArenaFull`.
        """
        self._cells = max(-(-cells // ROW) * ROW, ROW)
        size = -(-self._cells * (_ENTRY + _EXPIRY) // 8) * 8
        head = _SECRET + columns
        start = -(-head // 4096) * 4096
        whole = start + columns * size
        memory = memoryview(mmap.mmap(-1, whole)) if arena is None else arena.region(f"replays\0{name}", whole)
        with nullcontext() if arena is None else arena.locked():
            if not any(memory[:_SECRET]):
                memory[:_SECRET] = os.urandom(_SECRET)
        self.secret = bytes(memory[:_SECRET])
        """Random, and the same in all workers for as long as the daemon runs."""
        self._used = memory[_SECRET:head]  # a column that nobody wrote to is not read: reading takes memory too
        self._columns = [_Column(memory[at : at + size], self._cells) for at in range(start, len(memory), size)]
        self._worker = worker
        self._others = [number for number in range(columns) if number != worker]

    def __repr__(self) -> str:
        return f"<Replays cells={self._cells} columns={len(self._columns)}>"

    def first(self, holder: bytes, identifier: bytes, until: float, now: float) -> Verdict:
        """Whether `holder` shows `identifier` for the first time. If so ("") that is remembered until `until`.

        Times are seconds since the epoch. Ask once all else about it has been found right, for it takes room.
        """
        mark = blake2b(holder, key=self.secret, digest_size=_MARK).digest()
        text = b"%d:%b%b" % (len(holder), holder, identifier)
        found = blake2b(text, key=self.secret, digest_size=_ENTRY - _MARK + 8).digest()
        entry, at = mark + found[8:], int.from_bytes(found[:8], "big") % (self._cells // ROW) * ROW
        own = self._columns[self._worker]
        if own.find(at, entry, now):
            return "replayed"
        self._used[self._worker] = 1
        if not own.claim(at, entry, min(math.ceil(until), 2**32 - 1), now):
            return "full"
        for number in self._others:
            if self._used[number] and self._columns[number].find(at, entry, now):
                return "replayed"
        return ""
