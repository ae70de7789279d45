"""Reading a segment as it grows: which records count, and where the chain breaks."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import TypeVar

import msgspec

from gatewayd.audit import frames
from gatewayd.audit.frames import Frame, Gap, Head, Opening
from gatewayd.audit.keys import Signer
from gatewayd.errors import GatewaydError

T = TypeVar("T")
_opening = msgspec.msgpack.Decoder(Opening).decode
_gap = msgspec.msgpack.Decoder(Gap).decode
_head = msgspec.msgpack.Decoder(Head).decode


class BrokenChain(GatewaydError):
    """The file is not what was written: `record` is the number, from 1, of the first record that is in doubt."""

    def __init__(self, chain: str, segment: int, record: int, why: str) -> None:
        super().__init__(f"{chain}, segment {segment}, record {record}: {why}")
        self.chain, self.segment, self.record, self.why = chain, segment, record, why


class Reader:
    """Follows one segment from its opening on. With a `signer` the MACs of tips are checked, too.

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
        self.ended = False
        self._signer = signer
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
        opening = _decoded(_opening, first.body[frames.SIGNATURE :])
        previous = frames.digest(data[: first.end])
        return cls(opening, first.end, previous, opening.records, signer)

    def feed(self, data: bytes, start: int = 0) -> list[bytes]:
        """The records that count since; `data[start:]` is what the file holds from `at` on.

        What is cut off at its end is left for the next time. Raises `BrokenChain`.
        """
        base = self.at - start
        found: list[bytes] = []
        waiting: list[bytes] = []
        previous, sha256, record = self.previous, hashlib.sha256, frames.RECORD
        self._open = 0
        for each in frames.frames(data, start):
            if each.previous != previous:
                doubtful = max(self.records + self._open, self.opening.records + 1)
                raise self._broken("this record, or one behind it, was changed or is missing", doubtful)
            previous = sha256(data[each.start : each.end]).digest()
            if each.kind == record:
                waiting.append(each.body)
                self._open += 1
                continue
            if self.ended:
                raise self._broken("something stands behind the segment's end", self.records + 1)
            if each.kind == frames.GAP:
                self._lost(each)
                continue
            self._check(each)
            found += waiting
            waiting.clear()
            self.at, self.previous = base + each.end, previous
            self.records += self._open
            self._open = 0
        return found

    def _lost(self, gap: Frame) -> None:
        lost = _decoded(_gap, gap.body).records
        self._open += lost
        self.lost += lost

    def _check(self, each: Frame) -> None:
        """A frame that makes what stands before it count."""
        if each.kind == frames.TIP:
            if self._signer is not None and not hmac.compare_digest(each.body, self._signer.mac(each.previous)):
                raise self._broken("it was not written by this gateway", self.records + 1)
        elif each.kind == frames.OPENING:
            raise self._broken("a second opening stands in the segment", self.records + 1)
        elif _decoded(_head, each.body[frames.SIGNATURE :]).records != self.records + self._open:
            raise self._broken("the signed head counts other records", self.records + 1)
        self.ended = each.kind == frames.END

    def _broken(self, why: str, record: int) -> BrokenChain:
        return BrokenChain(self.opening.chain, self.opening.segment, record, why)


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except msgspec.DecodeError as error:
        raise BrokenChain("?", 0, 0, f"a frame cannot be read: {error}") from None
