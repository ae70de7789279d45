"""Reading a segment as it grows: which records count, and where the chain breaks."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import TypeVar

from gatewayd.audit import frames
from gatewayd.audit.frames import Opening, decode_gap, decode_head, decode_opening
from gatewayd.audit.keys import Signer
from gatewayd.errors import GatewaydError

T = TypeVar("T")


class BrokenChain(GatewaydError):
    """The file is not what was written: `record` is the number, from 1, of the first record that is in doubt."""

    def __init__(self, chain: str, segment: int, record: int, why: str) -> None:
        super().__init__(f"{chain}, segment {segment}, record {record}: {why}")
        self.chain, self.segment, self.record, self.why = chain, segment, record, why
        self.counted: list[bytes] = []
        """Records before it that `Reader.feed` had found to count by then."""


class Reader:
    """Follows one segment from its opening on. With a `signer` the MACs of tips are checked, too, if it is its segment:
    one of a key before this is only followed.

    `at`, `previous` and `records` stand behind the last frame that counts, so that reading can begin there again.
    """

    def __init__(self, opening: Opening, at: int, previous: bytes, records: int, signer: Signer | None = None) -> None:
        self.opening = opening
        self.at = at
        """Bytes of the segment that count."""
        self.previous = previous
        self.records = records
        """Records of the chain up to there, gaps included."""
        self.lost = 0
        """Records that gaps of this segment say are missing."""
        self.gaps: list[tuple[int, int]] = []
        """The gaps in what `feed` returned last: behind how many of these records, and how many are missing."""
        self.ended = False
        self._signer = signer if signer is not None and signer.id == opening.key else None
        self._open = 0  # records read behind `at`, gaps included

    @classmethod
    def of_segment(cls, data: bytes, signer: Signer | None = None) -> Reader | None:
        """A reader behind the opening of the segment that begins with `data`; None if it is not whole yet.

        The opening's signature is not checked here (`audit.verify`). Raises `BrokenChain`.
        """
        first = next(frames.frames(data), None)
        if first is None:
            return None
        if first.kind != frames.OPENING:
            raise BrokenChain("?", 0, 0, "a segment does not begin with its opening")
        try:
            opening = decode_opening(first.body[frames.SIGNATURE :])
        except frames.UNREADABLE as error:
            raise BrokenChain("?", 0, 0, f"an opening cannot be read: {error}") from None
        previous = frames.digest(data[: first.end])
        return cls(opening, first.end, previous, opening.records, signer)

    def feed(self, data: bytes, start: int = 0) -> list[bytes]:
        """The records that count since; `data[start:]` is what the file holds from `at` on.

        What is cut off at its end is left for the next time. Raises `BrokenChain`.
        """
        found: list[bytes] = []
        self.gaps = []
        try:
            self._feed(data, start, found)
        except BrokenChain as error:
            error.counted = found
            raise
        return found

    def _feed(self, data: bytes, start: int, found: list[bytes]) -> None:
        """`frames.frames` stands here once more, for a generator would cost each record half as much again."""
        base, size, header, unpack = self.at - start, len(data), frames.HEADER, frames.unpack_header
        previous, sha256 = self.previous, hashlib.sha256
        waiting: list[bytes] = []
        gaps: list[tuple[int, int]] = []
        self._open = 0
        while start + header <= size:
            length, kind, said = unpack(data, start)
            body, end = start + header, start + 4 + length
            if end > size or length < 33 or length > frames.LARGEST or kind not in frames.KINDS:
                return
            if said != previous:
                doubtful = max(self.records + self._open, self.opening.records + 1)
                raise self._broken("this record, or one behind it, was changed or is missing", doubtful)
            previous = sha256(data[start:end]).digest()
            start = end
            if kind == frames.RECORD:
                waiting.append(data[body:end])
                self._open += 1
                continue
            if self.ended:
                raise self._broken("something stands behind the segment's end", self.records + 1)
            if kind == frames.GAP:
                lost = self._decoded(decode_gap, data[body:end]).records
                gaps.append((len(found) + len(waiting), lost))
                self._open += lost
                continue
            self._check(kind, said, data[body:end])
            found += waiting
            self.gaps += gaps
            self.lost += sum(lost for _, lost in gaps)
            waiting, gaps = [], []
            self.at, self.previous = base + end, previous
            self.records += self._open
            self._open = 0

    def _check(self, kind: int, previous: bytes, body: bytes) -> None:
        """A frame that makes what stands before it count."""
        if kind == frames.TIP:
            if self._signer is not None and not hmac.compare_digest(body, self._signer.mac(previous)):
                raise self._broken("it was not written by this gateway", self.records + 1)
        elif kind == frames.OPENING:
            raise self._broken("a second opening stands in the segment", self.records + 1)
        elif self._decoded(decode_head, body[frames.SIGNATURE :]).records != self.records + self._open:
            raise self._broken("the signed head counts other records", self.records + 1)
        self.ended = kind == frames.END

    def _broken(self, why: str, record: int) -> BrokenChain:
        return BrokenChain(self.opening.chain, self.opening.segment, record, why)

    def _decoded(self, decode: Callable[[bytes], T], body: bytes) -> T:
        try:
            return decode(body)
        except frames.UNREADABLE as error:
            raise self._broken(f"a frame cannot be read: {error}", self.records + 1) from None
