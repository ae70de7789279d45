"""Memory that all workers share, given out by name: what has to be one for the whole machine lives in regions of it.

A region is found or made by whoever asks first, under a lock that only this costs; what stands in it is then the
business of its users, who keep to single-writer cells and need no lock. Regions are zero at first, stay until the
daemon ends, and only pages that somebody wrote to take memory.

What is leased instead is written once, by its maker, and stays as long as some process leases it: each holds a shared
lock on the byte of the file where it begins, which the kernel takes back from processes that die. When content of
another name is leased, that which nobody holds any more is given back to the system.

Layout: a directory of `ENTRIES` entries of 64 bytes (SHA-384 of the name, cut; kind; offset; bytes in use; bytes set
aside), then the regions, each from a page's beginning.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
import threading
import weakref
from collections.abc import Callable, Iterator

from gatewayd.errors import GatewaydError

SIZE = 1 << 36
"""Bytes of address space, 64 GiB; nearly all of it stays holes."""
ENTRIES = 4_096
_ENTRY = struct.Struct("=39sBqqq")
_KEPT, _LEASED, _UNFINISHED, _FREE = range(4)
_PAGE = mmap.PAGESIZE


class ArenaFull(GatewaydError):
    """There is no room, or no directory entry, for another region."""


class Arena:
    """Regions behind the descriptor of a memory file or of a file; without one, memory of this process alone.

    A process has one `Arena` of a file, and closes no other descriptor of it: with that its locks would be gone.
    """

    def __init__(self, descriptor: int = -1, size: int = SIZE) -> None:
        """`size` is in bytes; the file is made that long. The descriptor stays open, for the lock.

        One that is made here is closed with the arena.
        """
        if descriptor < 0:
            descriptor = os.memfd_create("gatewayd-arena")
            weakref.finalize(self, os.close, descriptor)
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self._descriptor = descriptor
        self._size = size
        self._turn = threading.RLock()
        self._depth = 0
        self._held: dict[int, int] = {}  # leases of this process by offset: the kernel does not count them
        self._map = mmap.mmap(descriptor, size)
        self._view = memoryview(self._map)

    def region(self, name: str, size: int) -> memoryview:
        """The `size` bytes called `name`, the same in every process. Another size makes another region.

        Raises `ArenaFull`.
        """
        key = _key(f"{name}\0{size}")
        with self.locked():
            found = self._find(key, _KEPT)
            at = found[0] if found else self._append(key, _KEPT, size, size)
        return self._view[at : at + size]

    def lease(self, name: str, make: Callable[[], bytes | bytearray]) -> Lease:
        """The content called `name`, to be read only; `make` makes it if no process has. Its name must tell all of it.

        `make` runs under the lock. Raises `ArenaFull`, and what `make` raises.
        """
        key = _key(name)
        with self.locked():
            found = self._find(key, _LEASED)
            if found is None:
                self._free_unused()
                found = self._store(key, make())
            at, size = found
            if not self._held.get(at):
                fcntl.lockf(self._descriptor, fcntl.LOCK_SH, 1, at)
            self._held[at] = self._held.get(at, 0) + 1
        return Lease(self._view[at : at + size].toreadonly(), lambda: self._let_go(at))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process is inside `locked` of this arena meanwhile. Not for the path of a request."""
        with self._turn:
            if not self._depth:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)

    def flush(self) -> None:
        """For an arena in a file: write what has changed to the disk. Blocks until it is there."""
        self._map.flush()

    def _entries(self) -> Iterator[tuple[int, tuple[bytes, int, int, int, int]]]:
        """The directory up to its end: where each entry stands, and what it says."""
        for number, entry in enumerate(_ENTRY.iter_unpack(self._view[: ENTRIES * _ENTRY.size])):
            if not entry[2]:
                return
            yield number * _ENTRY.size, entry

    def _find(self, key: bytes, kind: int) -> tuple[int, int] | None:
        """Offset and size of a region, if it is there."""
        for _, (its_key, its_kind, offset, size, _) in self._entries():
            if its_key == key and its_kind == kind:
                return offset, size
        return None

    def _append(self, key: bytes, kind: int, size: int, room: int) -> int:
        """Offset of a new region behind all others."""
        at, end = 0, ENTRIES * _ENTRY.size
        for place, (_, _, offset, _, its_room) in self._entries():
            at, end = place + _ENTRY.size, -(-(offset + its_room) // _PAGE) * _PAGE
        if at >= ENTRIES * _ENTRY.size or end + room > self._size:
            raise ArenaFull("the shared memory has no room for another region")
        _ENTRY.pack_into(self._view, at, key, kind, end, size, room)
        return end

    def _store(self, key: bytes, content: bytes | bytearray) -> tuple[int, int]:
        """Offset and size of `content`, now shared. Should this process die meanwhile, it is known as unfinished."""
        size = len(content)
        room = max(_PAGE, 1 << (size - 1).bit_length())  # few sizes, so that what is free fits what comes
        if not any(kind == _FREE and its_room == room for _, (_, kind, _, _, its_room) in self._entries()):
            self._append(b"", _FREE, 0, room)
        at, offset = next((at, each[2]) for at, each in self._entries() if each[1] == _FREE and each[4] == room)
        _ENTRY.pack_into(self._view, at, key, _UNFINISHED, offset, size, room)
        self._view[offset : offset + size] = content
        _ENTRY.pack_into(self._view, at, key, _LEASED, offset, size, room)
        return offset, size

    def _free_unused(self) -> None:
        """Give back the memory of contents that no process holds, or whose maker died over them."""
        for at, (_, kind, offset, _, room) in self._entries():
            if kind in (_LEASED, _UNFINISHED) and offset not in self._held and self._is_let_go(offset):
                self._map.madvise(mmap.MADV_REMOVE, offset, room)
                _ENTRY.pack_into(self._view, at, b"", _FREE, offset, 0, room)

    def _is_let_go(self, at: int) -> bool:
        """Whether no other process holds what begins there."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except (BlockingIOError, PermissionError):
            return False
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, at)
        return True

    def _let_go(self, at: int) -> None:
        with self._turn:
            self._held[at] -= 1
            if not self._held[at]:
                del self._held[at]
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, at)


class Lease:
    """Shared content that stays as it is until `release`; a process that ends releases all of its own."""

    def __init__(self, view: memoryview, let_go: Callable[[], None]) -> None:
        self.view = view
        self._let_go = let_go

    def release(self) -> None:
        """It is no longer read here; reading on raises `ValueError`. Once is enough, more does no harm."""
        let_go, self._let_go = self._let_go, _nothing
        self.view.release()
        let_go()


def _nothing() -> None:
    pass


def _key(name: str) -> bytes:
    return hashlib.sha384(name.encode()).digest()[:39]
