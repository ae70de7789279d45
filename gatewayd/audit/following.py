"""Following one whole segment from frame to frame, as fast as that goes, up to where it no longer fits.

What is wrong there, `audit.diagnosis` finds out.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

from gatewayd.audit import frames
from gatewayd.audit.frames import Frame, Opening, decode_gap, decode_head
from gatewayd.audit.keys import Signer
from gatewayd.audit.report import Lost
from gatewayd.audit.trust import Trust

T = TypeVar("T")
Stop = Literal["", "shape", "link", "content", "signature", "mac", "count", "opening", "end"]
"""Why there is no following any further: "" the data ends with a frame; no whole frame stands here (`shape`), one that
does not commit to the one before (`link`), one that says nothing readable (`content`), a `signature` or `mac` that is
not right, a head that has another `count`, a second `opening`, something behind the segment's `end`."""
_unpack = struct.Struct(">IB32s").unpack_from


class Point(NamedTuple):
    """Behind a frame."""

    at: int
    """Where in the segment."""
    digest: bytes
    """The frame's."""
    records: int
    """Of the chain up to there."""


class Following:
    """One segment, followed by `run`."""

    def __init__(self, data: bytes, opening: Frame, said: Opening, trust: Trust, signer: Signer | None = None) -> None:
        """`opening` is the first frame of `data`, and right. With a `signer` whose segment this is, MACs count."""
        start = Point(opening.end, frames.digest(data[: opening.end]), said.records)
        self.data = data
        self.said = said
        self.first = start.records + 1
        """Number of the segment's first record."""
        self.begin = start.at
        """Where its first frame behind the opening stands."""
        self.here = start
        """Behind the last frame that fits."""
        self.counting = start
        """Behind the last tip, head or end: what stands behind it was never acknowledged."""
        self.signed = start
        """Behind the last frame that is signed, and right: what stands before it is proven."""
        self.lost: list[Lost] = []
        self.ended = False
        self.stop: Stop = ""
        self.trust = trust
        self.signer = signer if signer is not None and signer.id == said.key else None

    def run(
        self,
        limit: int | None = None,
        keep: Callable[[list[bytes]], None] | None = None,
        known: set[bytes] | None = None,
    ) -> Following:
        """Follow up to `limit` bytes. `keep` takes records that are proven, as they get so; digests of signed frames
        are taken out of `known`.
        """
        limit = len(self.data) if limit is None else min(limit, len(self.data))
        self.stop = "end" if self.ended and self.here.at < limit else ""
        if self.ended:
            return self
        at, digest, records = self.here
        kept: list[bytes] = []
        data, view, sha256 = self.data, memoryview(self.data), hashlib.sha256
        unpack, header, record = _unpack, frames.HEADER, frames.RECORD
        while at < limit:
            if at + header > limit:
                self.stop = "shape"
                break
            length, kind, previous = unpack(data, at)
            end = at + 4 + length
            if length < 33 or end > limit or kind not in frames.KINDS or length > frames.LARGEST:
                self.stop = "shape"
                break
            if previous != digest:
                self.stop = "link"
                break
            if kind == record:
                records += 1
                digest = sha256(view[at:end]).digest()
                if keep is not None:
                    kept.append(data[at + header : end])
                at = end
                continue
            self.here = Point(at, digest, records)
            if not self._special(Frame(kind, previous, data[at + header : end], at, end)):
                return self
            at, digest, records = self.here
            if kind in frames.SIGNED:
                kept = self._proven(kept, keep, known)
            if kind == frames.END:
                self.stop = "end" if end < limit else ""
                return self
        self.here = Point(at, digest, records)
        return self

    def _proven(
        self, kept: list[bytes], keep: Callable[[list[bytes]], None] | None, known: set[bytes] | None
    ) -> list[bytes]:
        """What stands before `here` is signed."""
        if keep is not None:
            keep(kept)
        if known:
            known.discard(self.here.digest)
        return []

    def _special(self, frame: Frame) -> bool:
        """Take in a frame that is no record; False if it is wrong, and why is in `stop`."""
        self.stop = self.fault(frame)
        if self.stop:
            return False
        records = self.here.records
        if frame.kind == frames.GAP:
            gap = decode_gap(frame.body)
            self.lost.append(Lost(self.said.segment, records + 1, gap.records, gap.at))
            records += gap.records
        self.here = Point(frame.end, frames.digest(self.data[frame.start : frame.end]), records)
        if frame.kind != frames.GAP:
            self.counting = self.here
        if frame.kind in frames.SIGNED:
            self.signed = self.here
        self.ended = frame.kind == frames.END
        return True

    def fault(self, frame: Frame) -> Stop:
        """What is wrong with a frame that is no record and stands at `here`; "": nothing."""
        if frame.kind == frames.OPENING:
            return "opening"
        if frame.kind == frames.GAP:
            return "" if _read(decode_gap, frame.body) else "content"
        if frame.kind == frames.TIP:
            return self._tip_fault(frame)
        if not self.trust.signed(self.said.key, frame):
            return "signature"
        head = _read(decode_head, frame.body[frames.SIGNATURE :])
        if head is None:
            return "content"
        return "" if head.records == self.here.records else "count"

    def _tip_fault(self, frame: Frame) -> Stop:
        if len(frame.body) != frames.MAC:
            return "content"
        if self.signer is None or hmac.compare_digest(frame.body, self.signer.mac(frame.previous)):
            return ""
        return "mac"


def _read(decode: Callable[[bytes], T], body: bytes) -> T | None:
    try:
        return decode(body)
    except frames.UNREADABLE:
        return None
