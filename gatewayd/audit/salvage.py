"""Frames in a segment that is damaged: those that are whole are found again behind what is not."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from gatewayd.audit import frames
from gatewayd.audit.frames import Frame, decode_gap, decode_head, digest

_unpack = struct.Struct(">IB32s").unpack_from
_SAID = range(33 + frames.SIGNATURE + 3, 33 + frames.SIGNATURE + 20)
"""Lengths of heads and ends: two numbers in msgpack are 3 to 19 bytes."""
_LENGTHS = {
    frames.TIP: range(33 + frames.MAC, 34 + frames.MAC),
    frames.HEAD: _SAID,
    frames.END: _SAID,
    frames.GAP: range(36, 53),
    frames.OPENING: range(33 + frames.SIGNATURE, 1024),
    frames.RECORD: range(33, frames.LARGEST + 1),
}


class Whole(NamedTuple):
    """A frame that is whole, wherever it stands."""

    frame: Frame
    digest: bytes

    @property
    def records(self) -> int:
        """How many it counts for."""
        if self.frame.kind == frames.GAP:
            try:
                return decode_gap(self.frame.body).records
            except frames.UNREADABLE:
                return 0
        return int(self.frame.kind == frames.RECORD)

    @property
    def said(self) -> int | None:
        """How many records a head or an end says there are."""
        if self.frame.kind not in (frames.HEAD, frames.END):
            return None
        try:
            return decode_head(self.frame.body[frames.SIGNATURE :]).records
        except frames.UNREADABLE:
            return None


def wholes(data: bytes, start: int, limit: int) -> Iterator[Whole]:
    """The frames of `data[:limit]` from `start` on, those that are damaged left out."""
    at = start
    while at < limit:
        found = _frame(data, at, limit)
        if found is None or not (at == start or _continued(data, found, limit) or _plausible(found)):
            found = _search(data, at + 1, limit)
        if found is None:
            return
        yield Whole(found, digest(data[found.start : found.end]))
        at = found.end


def mended(data: bytes, at: int) -> tuple[Frame, Whole | None]:
    """What stands at `at` if all that was done to it was to change its length, or its kind: a frame up to the next
    whole one (None: to the end) with the kind that this one commits to, if there is one.
    """
    found = _search(data, at + 1, len(data))
    behind = Whole(found, digest(data[found.start : found.end])) if found else None
    end = found.start if found else len(data)
    previous, body = data[at + 5 : at + frames.HEADER], data[at + frames.HEADER : end]
    stands = Frame(data[at + 4] if at + 4 < end else 0, previous, body, at, end)
    for kind in sorted(frames.KINDS) if found else ():
        if found and digest(frames.frame(kind, previous, body)) == found.previous:
            return stands._replace(kind=kind), behind
    return stands, None


def _search(data: bytes, start: int, limit: int) -> Frame | None:
    """The next frame that surely is one: the next commits to it, or it is the kind of frame a file ends with, there."""
    at = data.find(b"\0", start, limit)  # the length's first byte, or it were 16 MiB
    while at >= 0:
        found = _frame(data, at, limit)
        if found is not None and (_continued(data, found, limit) or _final(found, limit)):
            return found
        at = data.find(b"\0", at + 1, limit)
    return None


def _frame(data: bytes, at: int, limit: int) -> Frame | None:
    if at + frames.HEADER > limit:
        return None
    length, kind, previous = _unpack(data, at)
    end = at + 4 + length
    if length < 33 or length > frames.LARGEST or end > limit or kind not in frames.KINDS:
        return None
    return Frame(kind, previous, data[at + frames.HEADER : end], at, end)


def _continued(data: bytes, frame: Frame, limit: int) -> bool:
    """Whether the frame behind it commits to it."""
    behind = _frame(data, frame.end, limit)
    return behind is not None and behind.previous == digest(data[frame.start : frame.end])


def _plausible(frame: Frame) -> bool:
    return frame.end - frame.start - 4 in _LENGTHS[frame.kind]


def _final(frame: Frame, limit: int) -> bool:
    return frame.end == limit and frame.kind in (frames.TIP, frames.HEAD, frames.END) and _plausible(frame)


def is_cut(rest: bytes, previous: bytes | None) -> bool:
    """Whether `rest` is what a write leaves that was cut off behind a frame of digest `previous`: a frame's beginning,
    or zeros. None: behind nothing, at a segment's beginning.
    """
    if not rest.strip(b"\0"):
        return True
    kinds = [frames.OPENING] if previous is None else [kind for kind in frames.KINDS if kind != frames.OPENING]
    if len(rest) >= 5:
        length, kind = struct.unpack_from(">IB", rest)
        if kind not in kinds or length not in _LENGTHS[kind] or length + 4 <= len(rest):
            return False
        kinds = [kind]
    fits = previous is None or previous.startswith(rest[5 : frames.HEADER])
    return fits and any(_begins(rest[:4], _LENGTHS[kind]) for kind in kinds)


def _begins(prefix: bytes, lengths: range) -> bool:
    """Whether one of `lengths` is written with these first bytes."""
    low = int.from_bytes(prefix.ljust(4, b"\0"), "big")
    high = int.from_bytes(prefix.ljust(4, b"\xff"), "big")
    return low <= lengths[-1] and high >= lengths[0]
