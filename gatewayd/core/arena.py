"""Memory that all workers share, given out by name: what has to be one for the whole machine lives in regions of it.

A region is found or made by whoever asks first, under a lock that only this costs; what stands in it is then the
business of its users, who keep to single-writer cells and need no lock. Regions are zero at first, stay until the
daemon ends, and only pages that somebody wrote to take memory. Layout: a directory of `ENTRIES` entries of 64 bytes
(SHA-384 of name and size; offset; size), then the regions, each from a page's beginning.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Iterator

from gatewayd.errors import GatewaydError

SIZE = 1 << 36
"""Bytes of address space, 64 GiB; nearly all of it stays holes."""
ENTRIES = 4_096
_ENTRY = struct.Struct("=48sqq")
_PAGE = mmap.PAGESIZE


class ArenaFull(GatewaydError):
    """There is no room, or no directory entry, for another region."""


class Arena:
    """Regions behind the descriptor of a memory file or of a file; without one, memory of this process alone."""

    def __init__(self, descriptor: int = -1, size: int = SIZE) -> None:
        """`size` is in bytes; the file is made that long. The descriptor stays open, for the lock."""
        if descriptor < 0:
            descriptor = os.memfd_create("gatewayd-arena")
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self._descriptor = descriptor
        self._size = size
        self._map = mmap.mmap(descriptor, size)
        self._view = memoryview(self._map)

    def region(self, name: str, size: int) -> memoryview:
        """The `size` bytes called `name`, the same in every process. Another size makes another region.

        Raises `ArenaFull`.
        """
        key = hashlib.sha384(f"{name}\0{size}".encode()).digest()
        with self.locked():
            at = self._find(key, size)
        return self._view[at : at + size]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process is inside `locked` of this arena meanwhile. Not for the path of a request."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def flush(self) -> None:
        """For an arena in a file: write what has changed to the disk. Blocks until it is there."""
        self._map.flush()

    def _find(self, key: bytes, size: int) -> int:
        """Offset of the region, new or old."""
        end = ENTRIES * _ENTRY.size
        for entry in range(ENTRIES):
            found, offset, length = _ENTRY.unpack_from(self._view, entry * _ENTRY.size)
            if found == key:
                return int(offset)
            if not offset:
                if end + size > self._size:
                    break
                _ENTRY.pack_into(self._view, entry * _ENTRY.size, key, end, size)
                return end
            end = -(-(offset + length) // _PAGE) * _PAGE
        raise ArenaFull("the shared memory has no room for another region")
