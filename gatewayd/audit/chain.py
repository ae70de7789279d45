"""A chain as it grows: which bytes to write next."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gatewayd.audit import frames
from gatewayd.audit.frames import Before, Gap, Head, Opening, digest, frame
from gatewayd.audit.keys import Signer

_encode = msgspec.msgpack.Encoder().encode


class Chain:
    """Makes the frames of one chain. What it returns is to be written in that order, or the chain is broken."""

    __slots__ = ("_signer", "name", "previous", "records", "segment")

    def __init__(
        self, name: str, signer: Signer, segment: int = 0, previous: bytes = frames.BEGINNING, records: int = 0
    ) -> None:
        """Go on behind segment number `segment` (0: there is none), whose last valid frame has the digest `previous`,
        with `records` records so far."""
        self._signer = signer
        self.name = name
        self.segment = segment
        self.previous = previous
        self.records = records

    def open(self, at: int, before: Before | None = None) -> bytes:
        """Begin the next segment, at nanosecond `at` since the epoch."""
        self.segment += 1
        said = Opening(self.name, self.segment, at, self.records, self._signer.id, before)
        return self._signed(frames.OPENING, said)

    def append(self, bodies: Iterable[bytes]) -> bytes:
        """Records, and the tip that makes them count."""
        made = []
        previous, make, record, count = self.previous, frame, frames.RECORD, 0
        for body in bodies:
            whole = make(record, previous, body)
            previous = digest(whole)
            made.append(whole)
            count += 1
        tip = make(frames.TIP, previous, self._signer.mac(previous))
        self.previous = digest(tip)
        self.records += count
        made.append(tip)
        return b"".join(made)

    def gap(self, at: int, lost: int) -> bytes:
        """Say that `lost` records are missing here."""
        whole = frame(frames.GAP, self.previous, _encode(Gap(at, lost)))
        self.previous = digest(whole)
        self.records += lost
        return whole

    def head(self, at: int, end: bool = False) -> bytes:
        """Sign what stands so far; `end`: nothing follows in this segment."""
        return self._signed(frames.END if end else frames.HEAD, Head(at, self.records))

    def _signed(self, kind: int, said: msgspec.Struct) -> bytes:
        whole = frame(kind, self.previous, self._signer.body(kind, self.previous, _encode(said)))
        self.previous = digest(whole)
        return whole
