"""A book: what everybody has used of one quota in one period, in a file that all workers map.

Each worker writes its own column of a row and reads all of them, so nothing is locked while requests are counted, and
what is counted survives any process: the pages are the kernel's. Rows are given out under the file's lock, to the keyed
digest of what is counted, and never taken back; a period that is over is another file. Of keys that callers may make up
only so many get rows of their own; further ones share others, which their digests choose. So nobody who is known ever
shares, however many keys others bring.

Layout, in the machine's byte order:

    0          what it is and what of (`_HEAD`), with a checksum
    256        numbers that change: rows given out and rows with disk space, by place; blocks of columns; shared rows
    64 KiB     index: by digest, the number of a row, 0 for none (open addressing, half empty at the least)
    + 2 MiB    digests of the rows given out
    + 3 MiB    cells, in blocks of eight columns: 8 bytes for each column, row by row

The file is as long as its blocks but full of holes. A page is given its disk space before anything is written there: a
full disk is an error of the one who wants a new row, where a write through the map would be the end of the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
import time
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from gatewayd.errors import GatewaydError
from gatewayd.limits.calendar import Period
from gatewayd.limits.table import IDENTIFIED, OWN, STRANGER

ROWS = {OWN: 1 << 17, IDENTIFIED: 1 << 15, STRANGER: 1 << 15}
"""Rows to give out, by who is counted."""
SHARED = 1 << 15
"""Rows that further identified callers share, and as many again that further strangers do."""
COLUMNS = 128
"""Processes that may write at the same time."""
PATIENCE = 0.05
"""Seconds to wait for the lock of another process, which is held for microseconds unless that process is stopped."""

_MAGIC, _VERSION = b"gw quota", 1
_HEAD = struct.Struct("=8sIqq16s")  # magic, version, start, end, salt
_CHECKSUM = struct.Struct("=I")
_GIVEN, _BACKED, _BLOCKS, _SHARED_BACKED = 32, 35, 38, 39  # numbers of 8 bytes; the first two one for each place
_PAGE = 4096
_SLOTS = 1 << 19
_PROBES = 1 << 12
_ROUNDS = 3
_DIGEST = 16
_WIDTH = 8  # columns of a block
_ROW = 8 * _WIDTH  # bytes
_FIRST = {OWN: 0, IDENTIFIED: ROWS[OWN], STRANGER: ROWS[OWN] + ROWS[IDENTIFIED]}
_OWNED = sum(ROWS.values())
_INDEX = 1 << 16  # as all that follows a multiple of any machine's pages
_DIGESTS = _INDEX + 4 * _SLOTS
_CELLS = _DIGESTS + _DIGEST * _OWNED
_BLOCK = _ROW * (_OWNED + 2 * SHARED)
_STEP = 256  # rows that are given disk space together


class BookFull(GatewaydError):
    """Every row is given out."""


class BookDamaged(GatewaydError):
    """The file is none of ours, of another version, or broken."""


class BookBusy(GatewaydError):
    """Another process does not let go of the lock."""


class Book:
    """The book in the file at `path`, as the process that writes `column` sees it. `at` is what `row` said."""

    def __init__(self, path: Path, period: Period, column: int) -> None:
        """Raises `FileNotFoundError`, `BookDamaged`, `BookBusy`, and `OSError` for a full disk."""
        self.path = path
        self.period = period
        self.dirty = False  # something was written since this was last set to False
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        block, self._column = divmod(column, _WIDTH)
        with locked(self._fd):
            self._salt, whole = _check(self._fd, period)
            base = memoryview(mmap.mmap(self._fd, _CELLS))
            self._live = base[:_PAGE].cast("q")
            self._take_blocks(whole, block + 1)
        self.member = b"%b:%d" % (self._salt.hex().encode(), column)
        """The book, a colon, the column: tells it from all others, on other machines too."""
        self._index = base[_INDEX:_DIGESTS].cast("I")
        self._digests = base[_DIGESTS:]
        self._maps: list[memoryview] = []
        self._first = self._blocks()[0]
        self._own = self._maps[block]
        lock = Lock()
        self._fence = (lock.acquire, lock.release)

    def used(self, at: int) -> int:
        """How much is used, by all processes."""
        if self._live[_BLOCKS] == 1:
            return sum(self._first[at : at + _WIDTH])
        return sum(sum(cells[at : at + _WIDTH]) for cells in self._blocks())

    def own(self, at: int) -> int:
        """How much of that stands in this process' column."""
        amount: int = self._own[at + self._column]
        return amount

    def take(self, at: int, amount: int, limit: int) -> int:
        """Use `amount`: how much is used then, or -1, with nothing taken, if it were more than `limit`.

        It is written first and looked at then, so of two processes that want the last of it one at most gets it. If
        both gave way to each other they try again.
        """
        own, cell = self._own, at + self._column
        acquire, release = self._fence
        for _ in range(_ROUNDS):
            own[cell] += amount
            acquire()  # a locked instruction: what others read from here on holds the amount
            release()
            used = self.used(at)
            if used <= limit:
                self.dirty = True
                return used
            own[cell] -= amount
            if self.used(at) + amount > limit:
                break
        return -1

    def give_back(self, at: int, amount: int) -> None:
        """Undo `take`, at once or later."""
        self._own[at + self._column] -= amount
        self.dirty = True

    def row(self, key: bytes, place: int) -> int:
        """Where the row of `key` lies; a key that has none gets one. About 15 µs: remember it.

        `place`: OWN, IDENTIFIED or STRANGER (`limits.table`). Raises `BookFull`, `BookBusy`, `OSError`.
        """
        digest = self._digest(key, place)
        row = self._find(digest) or self._give(digest, place) or self._share(digest, place)
        return (row - 1) * _WIDTH

    def used_by(self, key: bytes, place: int) -> int:
        """How much is used by `key`; nobody gets a row by being asked for."""
        digest = self._digest(key, place)
        row = self._find(digest)
        if not row and place != OWN and self._live[_GIVEN + place] == ROWS[place]:
            row = _shared(digest, place)
        return self.used((row - 1) * _WIDTH) if row else 0

    def keys(self) -> int:
        """How many rows are given out to keys of their own, of `ROWS[OWN]`."""
        given: int = self._live[_GIVEN + OWN]
        return given

    def sync(self) -> None:
        """See that the disk has everything. Blocks until it has; other threads run meanwhile. Raises `OSError`."""
        self.dirty = False  # first: what is written from here on makes it dirty again
        os.fdatasync(self._fd)

    # -- rows -----------------------------------------------------------------------------------------------------

    def _digest(self, key: bytes, place: int) -> bytes:
        return hashlib.blake2b(key, digest_size=_DIGEST, key=self._salt, person=bytes([place])).digest()

    def _find(self, digest: bytes) -> int:
        """The number of its own row, from 1; 0 if it has none."""
        for slot in _slots(digest):
            row = self._index[slot]
            if not row:
                return 0
            if row <= _OWNED and self._digests[(row - 1) * _DIGEST : row * _DIGEST] == digest:
                return row
        return 0

    def _give(self, digest: bytes, place: int) -> int:
        """The number of its own row, a new one unless another process was quicker; 0 if it gets none."""
        given = self._live[_GIVEN + place]
        if given == ROWS[place]:
            return 0
        with locked(self._fd):
            row = self._find(digest)
            slot = next((slot for slot in _slots(digest) if not self._index[slot]), -1)
            given = self._live[_GIVEN + place]
            if row or slot < 0 or given == ROWS[place]:
                return row
            row = _FIRST[place] + given + 1
            self._back(place, given, slot)
            self._clear((row - 1) * _WIDTH)
            self._digests[(row - 1) * _DIGEST : row * _DIGEST] = digest
            self._live[_GIVEN + place] = given + 1
            self._index[slot] = row  # last: from here on others find it
            self.dirty = True
        return row

    def _share(self, digest: bytes, place: int) -> int:
        if place == OWN:
            raise BookFull(f"{self.path.name} has no room for more than {ROWS[OWN]} consumers")
        if not self._live[_SHARED_BACKED]:
            with locked(self._fd):
                self._back_shared(0, self._live[_BLOCKS])
                self._live[_SHARED_BACKED] = 1
        return _shared(digest, place)

    def _clear(self, at: int) -> None:
        """Set a row to zero: a machine that lost its power may remember a row it does not remember to have given."""
        for cells in self._blocks():
            cells[at : at + _WIDTH] = memoryview(bytes(_ROW)).cast("q")

    # -- disk space, and blocks of columns ------------------------------------------------------------------------

    def _back(self, place: int, given: int, slot: int) -> None:
        """Give the next row of a place, and what leads to it, disk space."""
        os.posix_fallocate(self._fd, (_INDEX + 4 * slot) // _PAGE * _PAGE, _PAGE)
        if given == self._live[_BACKED + place]:
            self._back_rows(_FIRST[place] + given, _STEP, 0, self._live[_BLOCKS])
            self._live[_BACKED + place] = given + _STEP

    def _back_rows(self, first: int, count: int, block: int, end: int) -> None:
        """Give so many rows from `first` on disk space: their digests, and their cells in blocks up to `end`."""
        if count:
            os.posix_fallocate(self._fd, _DIGESTS + first * _DIGEST, count * _DIGEST)
            for each in range(block, end):
                os.posix_fallocate(self._fd, _CELLS + each * _BLOCK + first * _ROW, count * _ROW)

    def _back_shared(self, block: int, end: int) -> None:
        for each in range(block, end):
            os.posix_fallocate(self._fd, _CELLS + each * _BLOCK + _OWNED * _ROW, 2 * SHARED * _ROW)

    def _back_blocks(self, block: int, end: int) -> None:
        """Give every row that may be written to its disk space in blocks up to `end`."""
        for place, first in _FIRST.items():
            self._back_rows(first, self._live[_BACKED + place], block, end)
        if self._live[_SHARED_BACKED]:
            self._back_shared(block, end)

    def _take_blocks(self, whole: int, count: int) -> None:
        """Of the blocks that are there `whole`, and more up to `count`, see that they have the disk space they need.

        Old ones have it, unless the file was copied from elsewhere: some ways to copy make holes of zeros.
        """
        blocks = max(count, min(whole, self._live[_BLOCKS]))
        if blocks > whole:
            os.ftruncate(self._fd, _CELLS + blocks * _BLOCK)
        os.posix_fallocate(self._fd, 0, _PAGE)
        self._back_blocks(0, blocks)
        self._live[_BLOCKS] = blocks

    def _blocks(self) -> list[memoryview]:
        """The cells of each block in use; another process may have added some."""
        while len(self._maps) < self._live[_BLOCKS]:
            offset = _CELLS + len(self._maps) * _BLOCK
            self._maps.append(memoryview(mmap.mmap(self._fd, _BLOCK, offset=offset)).cast("q"))
        return self._maps


def create(path: Path, period: Period) -> None:
    """Make the file of an empty book, whole or not at all. Raises `OSError`. Nobody else may do so at the same time."""
    head = _HEAD.pack(_MAGIC, _VERSION, *period, os.urandom(16))
    new = path.with_name("new")
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _PAGE)
        os.pwrite(descriptor, head + _CHECKSUM.pack(zlib.crc32(head)), 0)
        os.pwrite(descriptor, struct.pack("=q", 1), 8 * _BLOCKS)
        os.ftruncate(descriptor, _CELLS + _BLOCK)
    finally:
        os.close(descriptor)
    new.replace(path)


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Nobody else is inside for this file meanwhile (flock(2)); a process that dies inside is no longer.

    Raises `BookBusy` after `PATIENCE`: requests wait for this.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BookBusy("another process holds the lock of the quotas' files and does nothing") from None
            time.sleep(PATIENCE / 1000)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _shared(digest: bytes, place: int) -> int:
    """The number of the row that it shares."""
    return _OWNED + (place - IDENTIFIED) * SHARED + int.from_bytes(digest[:4], "little") % SHARED + 1


def _slots(digest: bytes) -> Iterator[int]:
    """Where in the index a digest may stand."""
    first = int.from_bytes(digest[4:8], "little")
    return ((first + step) % _SLOTS for step in range(_PROBES))


def _check(descriptor: int, period: Period) -> tuple[bytes, int]:
    """The salt of the book in a file, and how many blocks are there whole.

    Fewer than the head says are there if a machine lost its power right when one was added: nothing was in it yet.
    Raises `BookDamaged`; whatever this lets pass is safe to map and to write.
    """
    data = os.pread(descriptor, _PAGE, 0).ljust(_PAGE, b"\0")
    magic, version, start, end, salt = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise BookDamaged("it is no book of a quota")
    if version != _VERSION:
        raise BookDamaged(f"it has the form {version}, and this gatewayd knows {_VERSION}")
    if _CHECKSUM.unpack_from(data, _HEAD.size)[0] != zlib.crc32(data[: _HEAD.size]) or (start, end) != period:
        raise BookDamaged("its head is damaged")
    numbers = struct.unpack_from("=8q", data, 8 * _GIVEN)
    given, backed, blocks = numbers[:3], numbers[3:6], numbers[6]
    sound = all(0 <= given[each] <= backed[each] <= ROWS[each] for each in ROWS)
    if not sound or not 1 <= blocks <= COLUMNS // _WIDTH:
        raise BookDamaged("its numbers are damaged")
    whole = (os.fstat(descriptor).st_size - _CELLS) // _BLOCK
    if whole < 1:
        raise BookDamaged("it is cut off")
    return bytes(salt), int(whole)
