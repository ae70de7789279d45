"""The format of segments: files of frames, each of which commits to the one before it.

    frame   = length (4 bytes, big-endian: of all that follows) kind (1 byte) previous (32 bytes) body
    previous = SHA-256 of the whole frame before, length included; of the first frame of a segment: that of the last
               valid frame of the segment before it, or zeros where there is none

Kinds: a segment begins with an `OPENING`, which says where it goes on from. `RECORD`s follow. What was written at once
ends in a `TIP`, a MAC over its `previous` that only this gateway can make: what stands behind the last valid tip was
never acknowledged to anybody and does not count. A `HEAD` is signed (Ed25519) and says how many records there are so
far; from there on everybody with the public key can prove what stands before it. An `END` is the last head of a
segment. A `GAP` says how many records were lost, where policy was to go on without them.

The body of a signed frame is its signature, then what it says in msgpack. Signed is `CONTEXT`, kind, previous, and what
it says (`signed_text`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

OPENING: Final = 1
RECORD: Final = 2
TIP: Final = 3
HEAD: Final = 4
END: Final = 5
GAP: Final = 6
SIGNED: Final = (OPENING, HEAD, END)
KINDS: Final = frozenset((OPENING, RECORD, TIP, HEAD, END, GAP))

BEGINNING: Final = bytes(32)
"""What the first frame of a chain has for its previous."""
SIGNATURE: Final = 64
"""Bytes of a signature (RFC 8032 §5.1.6)."""
MAC: Final = 16
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a frame at most: a length beyond is no frame."""
CONTEXT: Final = b"gatewayd audit 1\0"

_HEADER = struct.Struct(">IB32s")
HEADER: Final = _HEADER.size
"""Bytes of a frame before its body."""
unpack_header = _HEADER.unpack_from
"""(bytes, offset) → length, kind, previous."""
_pack_start = struct.Struct(">IB").pack
_sha256 = hashlib.sha256


class Before(msgspec.Struct, frozen=True):
    """The segment that a segment goes on from, as it was found."""

    segment: int
    size: int
    """Bytes that count: up to the end of the last valid tip, head or end."""
    dropped: int = 0
    """Bytes behind them: a write that was cut off."""


class Opening(msgspec.Struct, frozen=True):
    """What an `OPENING` says."""

    chain: str
    segment: int
    """From 1."""
    at: int
    """Nanoseconds since the epoch."""
    records: int
    """Records of the chain before this segment, gaps included."""
    key: str
    """Which key signs (`audit.keys.key_id`)."""
    before: Before | None = None


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a `HEAD` and an `END` say."""

    at: int
    records: int
    """Records of the chain up to here, gaps included."""


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """What a `GAP` says."""

    at: int
    records: int
    """How many were lost here. They count among the chain's records."""


decode_opening = msgspec.msgpack.Decoder(Opening).decode
decode_head = msgspec.msgpack.Decoder(Head).decode
decode_gap = msgspec.msgpack.Decoder(Gap).decode
"""What a frame says, behind its signature if it has one. They raise what is `UNREADABLE`."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises of bytes that are none of its own."""


class Frame(NamedTuple):
    """A frame as it stands in `data[start:end]`."""

    kind: int
    previous: bytes
    body: bytes
    start: int
    end: int


def frame(kind: int, previous: bytes, body: bytes) -> bytes:
    """The bytes of a frame."""
    return _pack_start(33 + len(body), kind) + previous + body


def digest(whole: bytes | memoryview) -> bytes:
    """What the frame behind `whole` has for its previous."""
    return _sha256(whole).digest()


def frames(data: bytes, start: int = 0) -> Iterator[Frame]:
    """The frames of `data` from `start` on, up to what is no whole frame."""
    size = len(data)
    unpack, header = unpack_header, HEADER
    while start + header <= size:
        length, kind, previous = unpack(data, start)
        end = start + 4 + length
        if length < 33 or length > LARGEST or end > size or kind not in KINDS:
            return
        yield Frame(kind, previous, data[start + header : end], start, end)
        start = end


def signed_text(kind: int, previous: bytes, said: bytes) -> bytes:
    """What is signed of a signed frame."""
    return CONTEXT + bytes((kind,)) + previous + said
