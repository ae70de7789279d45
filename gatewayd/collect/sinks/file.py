"""A file of JSON objects, one per line (NDJSON), each call once.

What is remembered with the position: which file (its inode), how many bytes of it count, and a hash of the last of
them. Bytes behind them are of a batch that was cut off; they go when the sink is opened, if the hash says that it is
still the same file. Before the first line goes to another file, that is remembered as well.

Renamed by somebody else (logrotate), the file is left behind with the next batch; no signal is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from gatewayd.audit.keys import sync_folder
from gatewayd.collect.sinks.fields import IDENTITY, Origin, chosen, json_expressions, json_lines
from gatewayd.collect.sinks.following import Batch
from gatewayd.collect.sinks.sink import Blocking, Memory
from gatewayd.config.sinks import FileSink

MOMENT = """strftime("at", '%Y-%m-%dT%H:%M:%S.%fZ')"""
_MODE = 0o640
_TAIL = 4096
"""Bytes before the end that counts that the hash is of."""
_INODE, _SIZE, _HASH, _BORN = "inode", "size", "hash", "born"


class Sink:
    """Writes to one file. `clock` gives Unix time."""

    repeatable: ClassVar[bool] = False

    def __init__(self, config: FileSink, origin: Origin, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._path = Path(config.path)
        self._names = (*IDENTITY, *chosen(config))
        self._origin = origin
        self._clock = clock
        self._descriptor = -1
        self._size = 0
        self._born = 0.0
        self._memory: Memory | None = None
        self._blocking: Blocking | None = None

    def columns(self) -> list[str]:
        """One text per call, and what was captured."""
        return json_expressions(self._names, self._origin, MOMENT)

    async def open(self, memory: Memory, blocking: Blocking) -> None:
        self._memory, self._blocking = memory, blocking
        await blocking(self._recover)

    async def send(self, batch: Batch) -> Mapping[str, int]:
        assert self._blocking is not None
        return await self._blocking(self._write, batch)

    async def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _recover(self) -> None:
        """Open the file, without what a batch left that was cut off."""
        assert self._memory is not None
        inode, size = self._memory.remembered(_INODE), self._memory.remembered(_SIZE)
        if inode is not None and size is not None:
            known = self._find(inode)
            if known is not None:
                self._cut(known, size)
        self._reopen()

    def _find(self, inode: int) -> Path | None:
        """The file where it was, or renamed in its folder to what begins with its name."""
        with os.scandir(self._path.parent) as entries:
            for entry in entries:
                ours = entry.name.startswith(self._path.name) and entry.inode() == inode
                if ours and entry.is_file(follow_symlinks=False):
                    return Path(entry.path)
        return None

    def _cut(self, path: Path, size: int) -> None:
        """Cut off what stands behind `size` bytes, if these are ours."""
        assert self._memory is not None
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size > size and _hash(descriptor, size) == self._memory.remembered(_HASH):
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _reopen(self) -> None:
        """Have the file at the path, made if it is not there, and remember that."""
        assert self._memory is not None
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._size = found.st_size
        if self._size and os.pread(descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(descriptor, b"\n")  # somebody's last line was not whole
        known = self._memory.remembered(_INODE) == found.st_ino and found.st_size == self._memory.remembered(_SIZE)
        born = self._memory.remembered(_BORN) if known else None
        self._born = float(born) if born is not None else self._clock()
        if self._config.sync == "batch":
            sync_folder(self._path.parent)
        self._memory.remember(self._state())

    def _state(self) -> dict[str, int]:
        inode = os.fstat(self._descriptor).st_ino
        return {_INODE: inode, _SIZE: self._size, _HASH: _hash(self._descriptor, self._size), _BORN: int(self._born)}

    def _write(self, batch: Batch) -> dict[str, int]:
        data = "".join(f"{line}\n" for line in json_lines(batch.rows, self._names)).encode()
        if self._moved():
            self._reopen()
        elif self._full(len(data)):
            self._rotate()
        if not self._size:
            self._born = self._clock()
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if self._config.sync == "batch":
            os.fdatasync(self._descriptor)
        self._size += len(data)
        return self._state()

    def _moved(self) -> bool:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return True
        ours = os.fstat(self._descriptor)
        if (found.st_ino, found.st_dev) != (ours.st_ino, ours.st_dev):
            return True
        return ours.st_size != self._size  # emptied in place: `copytruncate`

    def _full(self, more: int) -> bool:
        size, age = self._config.rotate_size, self._config.rotate_age
        if not self._size:
            return False
        return bool((size and self._size + more > size) or (age and self._clock() - self._born >= age))

    def _rotate(self) -> None:
        """Rename the file by the time, keep as many as are to be kept, and begin another."""
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%S")
        target = self._path.with_name(f"{self._path.name}.{stamp}")
        for count in range(1, 10_000):
            if not target.exists():
                break
            target = self._path.with_name(f"{self._path.name}.{stamp}-{count:04d}")
        os.rename(self._path, target)
        if self._config.keep:
            for old in self._rotated()[: -self._config.keep]:
                old.unlink(missing_ok=True)
        self._reopen()

    def _rotated(self) -> list[Path]:
        """What was renamed by us, oldest first."""
        prefix = f"{self._path.name}."
        found = [path for path in self._path.parent.iterdir() if path.name.startswith(prefix)]
        return sorted(path for path in found if _is_stamp(path.name.removeprefix(prefix)))


def _is_stamp(text: str) -> bool:
    with contextlib.suppress(ValueError):
        datetime.strptime(text[:15], "%Y%m%dT%H%M%S")
        return text[15:] == "" or (text[15] == "-" and text[16:].isdigit())
    return False


def _hash(descriptor: int, size: int) -> int:
    """Of the last bytes before `size`, 63 bits."""
    start = max(0, size - _TAIL)
    digest = hashlib.sha256(os.pread(descriptor, size - start, start)).digest()
    return int.from_bytes(digest[:8]) >> 1
