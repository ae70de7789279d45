"""A further place for stored replies behind a worker's own memory, such as one that several machines share.

It is asked once for all who wait, before the target is; what is fetched is offered to it. It must never make a request
wait for long: one that is slow or down says None.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from gatewayd.cache.entry import Entry, Key
from gatewayd.rfc.caching import Terms
from gatewayd.rfc.conditional import Validators


class Tier(Protocol):
    """What the cache asks of it. Values are what `pack` makes."""

    async def find(self, key: Key) -> list[bytes]:
        """The variants stored under a key (`name_of`); none if there are none, or it cannot say in time."""
        ...

    def offer(self, entry: Entry, value: bytes, seconds: float) -> None:
        """Store `value`, which is `entry` packed, for so long; it takes the place of the variant it is of
        (`variant_of`). 0 or less: it is only good for being validated. Does not wait, and may do nothing.
        """
        ...

    def forget(self, host: bytes, path: bytes, query: bytes | None) -> None:
        """An unsafe request has made everything of this URI invalid, whatever its key. Does not wait."""
        ...


class Packed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry as a tier keeps it: times are wall-clock, for other machines have other monotonic ones."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    terms: Terms
    held: Validators
    born: float
    vary: tuple[bytes, ...]
    selected: tuple[bytes | None, ...]
    tags: tuple[bytes, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packed)


def name_of(key: Key) -> bytes:
    """A key as bytes: the same for equal keys, on every machine."""
    return repr(key).encode()


def variant_of(entry: Entry) -> bytes:
    """What tells an entry from others of its key, as bytes."""
    return repr((entry.vary, entry.selected)).encode()


def pack(entry: Entry, now: float, wall: float) -> bytes:
    """An entry as bytes; it is `now` on the monotonic clock, `wall` on the other."""
    born = wall - (now - entry.born)
    terms = entry.terms._replace(dropped=frozenset())
    return _encoder.encode(
        Packed(entry.status, entry.headers, entry.body, terms, entry.held, born, entry.vary, entry.selected, entry.tags)
    )


def unpack(data: bytes, key: Key, now: float, wall: float) -> Entry:
    """The entry in `data`. Raises `msgspec.DecodeError`."""
    packed = _decoder.decode(data)
    terms = packed.terms._replace(age=max(0.0, wall - packed.born))
    return Entry(
        key, packed.status, packed.headers, packed.body, terms, packed.held, now, packed.vary, packed.selected,
        packed.tags,
    )  # fmt: skip
