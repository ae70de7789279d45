"""When credentials were last used, by the hour: noted in shared memory, written to a file now and then.

A fixed table of `SLOTS` entries (12 bytes of the credential's digest, the hour since the epoch) in memory shared by the
workers. An entry has its place among `REACH` neighbours; where all are taken, the one used longest ago gives way, so
what is known is bounded, and what is gone from the configuration goes from here. Workers write it without a lock: two
that take one place at the same moment lose one note, which comes again within the hour.

The file `last_use` in the state directory is written off the loop `DELAY` seconds after the first note that is not in
it; a crash loses no more than that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import tempfile
from pathlib import Path

from gatewayd.core.arena import Arena
from gatewayd.core.policy import BuildContext
from gatewayd.core.state import StateError, make_folder, state_folder
from gatewayd.core.tasks import spawn

_log = logging.getLogger(__name__)

SLOTS = 1 << 18
"""4 MiB; more credentials than that in use push each other out."""
REACH = 16
DELAY = 10.0
HOUR = 3600
FILE = "last_use"
_NAMED = 12
_ENTRY = struct.Struct("=12sI")
_HEAD = struct.Struct("=8sd")
_MAGIC = b"gwused01"


class LastUse:
    """The notes of all workers of the daemon."""

    def __init__(self, arena: Arena, folder: Path) -> None:
        """Notes in `arena`; the first to come there fills them from the file in `folder`."""
        self._folder = folder
        self._cells = arena.region("identity.last_use", _HEAD.size + SLOTS * _ENTRY.size)
        with arena.locked():
            magic, _ = _HEAD.unpack_from(self._cells)
            if magic != _MAGIC:
                content = _content(folder)
                if len(content) == len(self._cells):
                    self._cells[:] = content
                _HEAD.pack_into(self._cells, 0, _MAGIC, 0.0)

    def mark(self, digest: bytes, now: float) -> None:
        """The credential of this digest is used at wall-clock second `now`. To be called in a loop."""
        if not self._note(digest[:_NAMED], int(now) // HOUR):
            return
        _, due = _HEAD.unpack_from(self._cells)
        if not now < due <= now + DELAY:  # else somebody is to write already
            _HEAD.pack_into(self._cells, 0, _MAGIC, now + DELAY)
            spawn(self._write_later(), "write last_use")

    def save(self) -> None:
        """Write the file anew, as a whole. Blocks."""
        try:
            make_folder(self._folder)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=FILE, delete=False) as file:
                file.write(self._cells)  # as it is: to pick out what is used would keep the loop from running meanwhile
            os.replace(file.name, self._folder / FILE)
        except (StateError, OSError) as error:
            _log.warning("when keys were last used cannot be written: %s", error)

    async def _write_later(self) -> None:
        try:
            await asyncio.sleep(DELAY)
        except asyncio.CancelledError:  # the worker ends
            self.save()
            raise
        await asyncio.to_thread(self.save)

    def _note(self, name: bytes, hour: int) -> bool:
        """Put it down, instead of what is oldest within reach; False if it is known."""
        start = int.from_bytes(name[:8], "little")
        oldest, place = hour + 1, 0
        for step in range(REACH):
            at = _HEAD.size + (start + step) % SLOTS * _ENTRY.size
            found, its_hour = _ENTRY.unpack_from(self._cells, at)
            if found == name and its_hour == hour:
                return False
            if its_hour < oldest:
                oldest, place = its_hour, at
            if found == name or not its_hour:  # nothing is ever taken out, so it does not stand behind a gap
                place = at
                break
        if place:
            _ENTRY.pack_into(self._cells, place, name, hour)
        return bool(place)


def open_last_use(context: BuildContext) -> LastUse | None:
    """Where uses are noted; None where nothing is served, or nothing can be kept."""
    if context.arena is None:
        return None
    try:
        return LastUse(context.arena, state_folder(context.document))
    except StateError as error:
        _log.warning("when keys were last used is not kept: %s", error)
        return None


def read(folder: Path) -> dict[bytes, int]:
    """The hours since the epoch in the file, by the first 12 bytes of the credentials' digests."""
    entries = _content(folder)[_HEAD.size :]
    return {name: hour for name, hour in _ENTRY.iter_unpack(entries) if hour}


def _content(folder: Path) -> bytes:
    """What is in the file, b"" if it is no such file."""
    try:
        content = (folder / FILE).read_bytes()
    except OSError:
        return b""
    sound = content.startswith(_MAGIC) and len(content) >= _HEAD.size and not (len(content) - _HEAD.size) % _ENTRY.size
    return content if sound else b""


def hour_of(known: dict[bytes, int], digest: bytes) -> int:
    """The hour since the epoch in which the credential of this digest was last used, 0 if none is known."""
    return known.get(digest[:_NAMED], 0)
