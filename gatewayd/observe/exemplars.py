"""Exemplars: of the exchanges that histograms count, one now and then, by the id under which logs and traces have it.

A worker has `PLACES` of them in its part of the shared memory, whatever the number of routes: which place an exchange
gets is decided by its route and its bucket, and the newest is there. An entry is written in one piece and carries a
checksum, so a reader that comes in between sees none instead of half of one.
"""

from __future__ import annotations

import struct
import time
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from gatewayd.core.exchange import Exchange

PLACES: Final = 256
TRACE, REQUEST = "trace_id", "request_id"
"""What an id is one of: the name of its label."""
_KINDS: Final = (TRACE, REQUEST)
_LONGEST = 96
"""Bytes of an id: with its label fewer than the 128 characters that OpenMetrics 1.0 allows."""
_BODY = struct.Struct(f"=BBHddd{_LONGEST}s")  # kind, length of the id, slot, when, total, upstream, id
_CHECK = struct.Struct("=I")
ENTRY: Final = _CHECK.size + _BODY.size  # 128
SIZE: Final = PLACES * ENTRY
"""Bytes that the exemplars of a worker take."""
_APART = 31
"""Places between two routes: above the number of buckets, so that few routes never share any."""


class Exemplar(NamedTuple):
    """One exchange. `slot` is its route's row, `when` Unix time, `total` and `upstream` seconds (0: no target)."""

    slot: int
    when: float
    total: float
    upstream: float
    kind: str
    id: str

    @property
    def own(self) -> float:
        """What the gateway added, seconds."""
        return self.total - self.upstream


class Exemplars:
    """Writes a worker's exemplars. `memory` is its own, `bounds` those of the buckets, in seconds."""

    def __init__(self, memory: memoryview, bounds: Sequence[float]) -> None:
        self._memory = memory.cast("B")
        self._bounds = bounds

    def put(self, exchange: Exchange, total: float) -> None:
        """Remember `exchange`, which took `total` seconds. One without an id that can be shown is left out."""
        kind, id_ = _id_of(exchange)
        if not 0 < len(id_) <= _LONGEST:
            return
        slot = 0 if exchange.route is None else exchange.route.slot
        body = _BODY.pack(kind, len(id_), slot, time.time(), total, exchange.upstream_seconds, id_)
        at = (slot * _APART + bisect_left(self._bounds, total)) % PLACES * ENTRY
        self._memory[at : at + ENTRY] = _CHECK.pack(zlib.crc32(body)) + body


def _id_of(exchange: Exchange) -> tuple[int, bytes]:
    """Of a trace that is exported, if it stands in one; any other would lead nowhere."""
    trace = exchange.trace
    if trace is not None and trace.sampled:
        return 0, trace.trace_id.encode()
    return 1, exchange.request_id


def read(memory: memoryview) -> Iterator[Exemplar]:
    """The exemplars that a worker wrote to `memory`, in no order."""
    whole = memory.cast("B").tobytes()
    for at in range(0, SIZE, ENTRY):
        body = whole[at + _CHECK.size : at + ENTRY]
        if body[0:1] > b"\1" or _CHECK.unpack_from(whole, at)[0] != zlib.crc32(body):
            continue
        fields: tuple[Any, ...] = _BODY.unpack(body)
        kind, length, slot, when, total, upstream, id_ = fields
        yield Exemplar(slot, when, total, upstream, _KINDS[kind], id_[:length].decode(errors="replace"))
