"""Following one chain of call records over its segments, from where one was to where its writer is."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewayd.audit.frames import BEGINNING, frames
from gatewayd.audit.keys import Signer, is_signed
from gatewayd.audit.reading import BrokenChain, Reader
from gatewayd.audit.segments import segment_path, segments

PIECE = 2 * 1024 * 1024
"""Bytes read at once; more where fewer hold no record that counts."""
FULL_LOOKS = 32
"""Of so many looks for the next segment, one is at all that are there."""

_log = logging.getLogger(__name__)


class Position(NamedTuple):
    """Behind which frame of a chain one stands."""

    segment: int
    """0: before the first."""
    offset: int
    previous: bytes
    """That frame's digest."""
    records: int
    """Of the chain up to there, gaps included."""


START = Position(0, 0, BEGINNING, 0)


class Found(NamedTuple):
    """Records that count, and their numbers in the chain."""

    bodies: list[bytes]
    numbers: NDArray[np.int64]


class Follower:
    """Reads a chain on from a position. With a signer, that what it reads was written by this gateway is checked, too,
    as far as its present key can tell. One thread at a time."""

    def __init__(self, folder: Path, signer: Signer | None, position: Position = START) -> None:
        self.name = folder.name
        self.missing = 0
        """Records that this follower passed by, for they are gone: lost by a gap, or with their segment."""
        self.breaks = 0
        """How often the chain was found to be broken."""
        self._folder = folder
        self._signer = signer
        self._position = position
        self._reader: Reader | None = None
        self._descriptor = -1
        self._complained = ""
        self._looks = 0

    @property
    def position(self) -> Position:
        """Behind what was read."""
        reader = self._reader
        if reader is None:
            return self._position
        return Position(reader.opening.segment, reader.at, reader.previous, reader.records)

    def read(self) -> Found | None:
        """The next records; None while there are none. Raises `BrokenChain`, `OSError`.

        A broken chain goes on where its writer says that it does: in a segment that refers to what was read last.
        """
        try:
            return self._read()
        except BrokenChain as error:
            self._complain(error)
            if not self._enter(self._linked()):
                raise
            return self._read()

    def behind(self) -> int:
        """Bytes that are there and not read, what does not count among them."""
        at = self.position
        sizes = 0
        for number in segments(self._folder):
            if number >= at.segment:
                try:
                    sizes += segment_path(self._folder, number).stat().st_size
                except FileNotFoundError:
                    continue
                sizes -= at.offset if number == at.segment else 0
        return max(sizes, 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> Found | None:
        size = PIECE
        while self._reader is not None or self._resume():
            reader = self._reader
            assert reader is not None
            later = self._later()  # before the tail is read: it has its end by then
            data = os.pread(self._descriptor, size, reader.at)
            before = reader.records, reader.at
            found = _feed(reader, data)
            self.missing += sum(lost for _, lost in reader.gaps)
            if found:
                return Found(found, _numbers(before[0], len(found), reader.gaps))
            if reader.at > before[1]:
                continue
            if len(data) == size:
                size *= 2
                continue
            self._is_whole(reader)
            if not later or not self._enter(self._next(later)):
                return None
        return None

    def _resume(self) -> bool:
        """Open the segment of the position, or the one behind it."""
        at = self._position
        numbers = segments(self._folder)
        if at.segment in numbers:
            if self._enter((at.segment, self._open(at.segment)), at):
                return True
            raise self._broken(at.segment, "it was cut off")
        if numbers and numbers[-1] < at.segment:
            raise self._broken(numbers[-1], "segments behind it are gone")
        return self._enter(self._next(numbers))

    def _later(self) -> list[int]:
        """Segments behind the present one: mostly none, which one look tells; every so often all are listed."""
        number = self.position.segment
        self._looks += 1
        if self._looks % FULL_LOOKS and not segment_path(self._folder, number + 1).exists():
            return []
        return [each for each in segments(self._folder) if each > number]

    def _next(self, numbers: list[int]) -> tuple[int, Reader | None]:
        """Of these segments the one behind what was read. Raises `BrokenChain` if none goes on from there."""
        at = self.position
        for number in numbers:
            reader = self._open(number)
            if reader is None:
                continue  # cut off within its opening, by a crash; or that is just being written
            if not self._goes_on(number):
                gone = number > at.segment + 1 or self._reader is None  # what stood before it
                if not gone or number != numbers[0] or reader.opening.records < at.records:
                    raise self._broken(number, "the segment does not go on from the one before it")
                self._skip(number, reader.opening.records - at.records)
            return number, reader
        return 0, None

    def _linked(self) -> tuple[int, Reader | None]:
        """Of all segments behind what was read, the one that goes on from there."""
        for number in segments(self._folder):
            if number > self.position.segment:
                try:
                    reader = self._open(number)
                except BrokenChain:
                    continue
                if reader is not None and self._goes_on(number):
                    return number, reader
        return 0, None

    def _skip(self, number: int, missing: int) -> None:
        """Segments are gone before they were read, such as by `audit.retention`."""
        self.missing += missing
        if missing:
            text = "%s: %d records are gone before segment %d, and were not collected"
            _log.warning(text, self.name, missing, number)

    def _open(self, number: int) -> Reader | None:
        """A reader behind the opening of a segment; None if that is not whole. Raises `BrokenChain`, `OSError`."""
        data = self._head(number)
        reader = Reader.of_segment(data, self._signer)
        if reader is None:
            return None
        said, signer = reader.opening, self._signer
        if (said.chain, said.segment) != (self.name, number):
            raise self._broken(number, "it belongs elsewhere")
        if signer is not None and said.key == signer.id and not is_signed(signer.public, next(frames(data))):
            raise self._broken(number, "it was not written by this gateway")
        return reader

    def _goes_on(self, number: int) -> bool:
        first = next(frames(self._head(number)))
        return first.previous == self.position.previous

    def _head(self, number: int) -> bytes:
        with segment_path(self._folder, number).open("rb") as file:
            return file.read(4096)

    def _enter(self, what: tuple[int, Reader | None], at: Position | None = None) -> bool:
        """Go on in a segment, behind its opening or at a position."""
        number, reader = what
        if reader is None:
            return False
        descriptor = os.open(segment_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        if at is not None:
            reader.at, reader.previous, reader.records = at.offset, at.previous, at.records
        self._reader, self._descriptor = reader, descriptor
        return True

    def _is_whole(self, reader: Reader) -> None:
        if os.fstat(self._descriptor).st_size < reader.at:
            raise self._broken(reader.opening.segment, "it was cut off")

    def _broken(self, segment: int, why: str) -> BrokenChain:
        return BrokenChain(self.name, segment, self.position.records + 1, why)

    def _complain(self, error: BrokenChain) -> None:
        if str(error) != self._complained:
            self._complained = str(error)
            self.breaks += 1
            _log.error("the audit is not what was written: %s", error)


def _feed(reader: Reader, data: bytes) -> list[bytes]:
    """What counts of `data`. What is broken is met again, and reported, once nothing stands before it."""
    try:
        return reader.feed(data)
    except BrokenChain as error:
        if not error.counted:
            raise
        return error.counted


def _numbers(before: int, count: int, gaps: list[tuple[int, int]]) -> NDArray[np.int64]:
    numbers = np.arange(before + 1, before + 1 + count, dtype=np.int64)
    for index, lost in gaps:
        numbers[index:] += lost
    return numbers
