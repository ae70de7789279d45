"""All consumers of a generation and what they may show, in one compact index that all workers read.

The index is bytes: records (msgpack, one per consumer), behind them an open-addressed hash table of fixed entries: 24
bytes of a digest, where the record lies, which of its credentials is meant. Whoever needs it first makes it from an
iterable of `config.consumers.Record`, nothing else; it lies in shared memory, named by the digest of what it was made
of, and a worker decodes what it is asked for. A hundred thousand consumers with a key each take about 30 MiB, once.

Digests are compared as any dictionary compares its keys, in no constant time. Nothing can be learned from that: for API
keys the digest is keyed with a secret, so a caller cannot choose how much of it agrees with a stored one; the other
kinds' lookup keys (user names, fingerprints, subjects) are no secrets. The whole digest decides, and 192 bits of it are
as good as all.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from gatewayd.config import consumers as config
from gatewayd.config.keys import join
from gatewayd.core.arena import Lease
from gatewayd.core.identity import Consumer
from gatewayd.core.policy import Credential
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity.certificates import folded
from gatewayd.identity.signature_keys import check_of

DECODED = 8_192
"""Consumers, and as many credentials, that a worker keeps decoded; those decoded first are forgotten first."""
_HEAD = struct.Struct("=8sQQ")
_MAGIC = b"gwcons01"
_ENTRY = struct.Struct("=Q16sII")
_DIGEST = struct.Struct("=Q16s")
_MEANT = struct.Struct("=II")
_LENGTH = struct.Struct("=I")
_ITSELF = 0xFFFFFFFF
"""In place of a credential's number: the entry is the consumer's own."""
_MOST_FAULTS = 20


class _Shown(Struct, array_like=True):
    """A credential in a record."""

    kind: str
    id: str
    not_before: float
    expires: float
    scopes: list[str]
    data: dict[str, Any]


class _Record(Struct, array_like=True):
    """A consumer in the index."""

    id: str
    name: str
    groups: list[str]
    plan: str
    labels: dict[str, str]
    credentials: list[_Shown]


_LISTS = {
    "key": "keys",
    "basic": "basic",
    "certificate": "certificates",
    "token": "tokens",
    "signature": "signatures",
}
"""Where credentials of each kind stand in the configuration."""
_BEGUN = {kind: blake2b(digest_size=24, person=kind.encode()) for kind in ("id", *_LISTS)}

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


class Index:
    """See `core.policy.Consumers`. Asking it after `close` raises `ValueError`: whoever asks fails, and refuses."""

    def __init__(self, content: memoryview | bytearray, lease: Lease | None = None) -> None:
        """Over what `make` made; `lease` is released by `close`."""
        _, self._slots, self._table = _HEAD.unpack_from(content)
        self._content = content
        self._lease = lease
        self._consumers: dict[str, Consumer] = {}
        self._credentials: dict[tuple[str, bytes], Credential] = {}

    def by_id(self, consumer: str) -> Consumer | None:
        """The consumer of that id."""
        found = self._consumers.get(consumer)
        if found is None:
            place = self._find(_digest("id", consumer.encode()))
            if place is not None:
                found = _consumer(self._record(place[0]))
                _remember(self._consumers, consumer, found)
        return found

    def by_credential(self, kind: str, key: bytes) -> Credential | None:
        """The credential of `kind` found under `key`."""
        found = self._credentials.get((kind, key))
        if found is None:
            place = self._find(_digest(kind, key))
            if place is not None:
                found = _credential(self._record(place[0]), place[1])
                _remember(self._credentials, (kind, key), found)
        return found

    def by_name(self, consumer: str, kind: str, name: str) -> Credential | None:
        """The consumer's credential of `kind` that logs call `name`."""
        place = self._find(_digest("id", consumer.encode()))
        if place is None:
            return None
        record = self._record(place[0])
        shown = [each for each, one in enumerate(record.credentials) if (one.kind, one.id) == (kind, name)]
        return _credential(record, shown[0]) if shown else None

    def close(self) -> None:
        """It is no longer asked."""
        self._consumers, self._credentials = {}, {}
        if self._lease is not None:
            self._lease.release()

    def _find(self, digest: bytes) -> tuple[int, int] | None:
        """Where the record lies that `digest` leads to, and which of its credentials is meant."""
        start, rest = _DIGEST.unpack(digest)
        at = start % self._slots
        while True:
            found, behind, record, which = _ENTRY.unpack_from(self._content, self._table + at * _ENTRY.size)
            if not record:
                return None
            if found == start and behind == rest:
                return record, which
            at = (at + 1) % self._slots

    def _record(self, at: int) -> _Record:
        (length,) = _LENGTH.unpack_from(self._content, at)
        return _decode(bytes(self._content[at + 4 : at + 4 + length]))

    def __repr__(self) -> str:
        return f"<Index of {len(self._content)} bytes>"


def make(records: Iterable[config.Record]) -> bytearray:
    """The index of `records`. Raises `ConfigError`: an id or credential that stands there twice, or cannot be."""
    return _Make().index(records)


class _Make:
    """An index in the making."""

    def __init__(self) -> None:
        self.content = bytearray(_HEAD.size)
        self.entries = bytearray()
        self.faults: list[Fault] = []
        self.live: dict[int, list[int]] = {}
        """Of consumers with several keys: where in their list those stand that are not revoked."""

    def index(self, records: Iterable[config.Record]) -> bytearray:
        collecting = gc.isenabled()
        gc.disable()  # what is made here goes at once; looking for cycles in it would take a tenth of the time
        try:
            for name, consumer in records:
                self._add(name, consumer)
            self._place()
        finally:
            if collecting:
                gc.enable()
        if self.faults:
            raise ConfigError(self.faults)
        return self.content

    def _add(self, name: str, consumer: config.Consumer) -> None:
        at = len(self.content)
        shown: list[_Shown] = []
        self._enter(_digest("id", name.encode()), at, _ITSELF)
        for place, key, each in _credentials(consumer):
            if not key:
                self._fault(f"{_path(name)}.{place}", "names nothing, or more than one thing")
                continue
            self._enter(_digest(each.kind, key), at, len(shown))
            shown.append(each)
        if len(consumer.keys) > 1:
            self._look_at_keys(name, consumer, at)
        for number, signature in enumerate(consumer.signatures):
            self._look_at_signature_key(f"{_path(name)}.signatures[{number}].key", signature)
        labels = dict(consumer.labels)
        packed = _encode(_Record(name, consumer.name, consumer.groups, consumer.plan, labels, shown))
        self.content += _LENGTH.pack(len(packed))
        self.content += packed

    def _look_at_keys(self, name: str, consumer: config.Consumer, record: int) -> None:
        self.live[record] = [number for number, key in enumerate(consumer.keys) if not key.revoked]
        seen = set()
        for number, key in enumerate(consumer.keys):
            if key.id in seen:
                self._fault(f"{_path(name)}.keys[{number}]", "there is another key of this id")
            seen.add(key.id)

    def _look_at_signature_key(self, path: str, signature: config.SignatureKey) -> None:
        try:
            check_of(signature.algorithm, signature.key)
        except ValueError as error:
            self._fault(path, f"{signature.algorithm} cannot use it: {error}")

    def _enter(self, digest: bytes, record: int, which: int) -> None:
        self.entries += digest + _MEANT.pack(record, which)

    def _place(self) -> None:
        """Put the entries into the table, which is a third empty."""
        slots = len(self.entries) // _ENTRY.size * 3 // 2 + 1
        table = len(self.content)
        content = self.content
        content += bytes(slots * _ENTRY.size)
        _HEAD.pack_into(content, 0, _MAGIC, slots, table)
        read, size = _ENTRY.unpack_from, _ENTRY.size
        for start, rest, record, which in _ENTRY.iter_unpack(self.entries):
            at = start % slots
            found, behind, taken, _ = read(content, table + at * size)
            while taken and (found != start or behind != rest):
                at = (at + 1) % slots
                found, behind, taken, _ = read(content, table + at * size)
            if taken:
                self._twice(record, which, taken)
            else:
                _ENTRY.pack_into(content, table + at * size, start, rest, record, which)

    def _twice(self, record: int, which: int, other: int) -> None:
        """The same id, or the same credential, again."""
        index = Index(self.content)
        again, first = index._record(record), index._record(other)
        if which == _ITSELF:
            self._fault(_path(again.id), "there is another consumer of this id")
            return
        kind = again.credentials[which].kind
        number = [each.kind for each in again.credentials[:which]].count(kind)
        if kind == "key" and record in self.live:
            number = self.live[record][number]
        self._fault(f"{_path(again.id)}.{_LISTS[kind]}[{number}]", f"consumer {first.id} has the same")

    def _fault(self, path: str, message: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(Fault(path, message))


def _credentials(consumer: config.Consumer) -> Iterator[tuple[str, bytes, _Shown]]:
    """Each credential with its place and what it is found under; b"" if that cannot be said. Revoked keys are none."""
    for key in consumer.keys:
        if not key.revoked:
            data = {"grace_until": float(key.grace_until)} if key.grace_until else {}
            shown = _Shown("key", key.id, float(key.not_before), float(key.expires), key.scopes, data)
            yield "keys", digest_of(key.hash), shown
    for at, login in enumerate(consumer.basic):
        yield f"basic[{at}]", login.username.encode(), _shown("basic", login.username, login)
    for at, certificate in enumerate(consumer.certificates):
        named = certificate_names(certificate)
        name = named[0] if len(named) == 1 else ""
        yield f"certificates[{at}]", name.encode(), _shown("certificate", name, certificate)
    for at, token in enumerate(consumer.tokens):
        yield f"tokens[{at}]", f"{token.issuer}\0{token.subject}".encode(), _shown("token", token.subject, token)
    for at, signature in enumerate(consumer.signatures):
        yield f"signatures[{at}]", signature.keyid.encode(), _shown("signature", signature.keyid, signature)


def digest_of(text: str) -> bytes:
    """The keyed digest in the `hash` of an API key."""
    return bytes.fromhex(text[text.index(":") + 1 :])


def certificate_names(certificate: config.CertificateName) -> list[str]:
    """What a certificate may be found under, such as `fingerprint:…`."""
    kind, _, name = certificate.san.partition(":")
    san = f"{kind}:{folded(kind, name)}" if certificate.san else ""
    named = {"fingerprint": certificate.fingerprint, "subject": certificate.subject, "san": san}
    return [f"{name}:{value}" for name, value in named.items() if value]


def _shown(kind: str, name: str, each: Struct) -> _Shown:
    """A credential's record; what all kinds have stands apart from what only this one has."""
    data = msgspec.structs.asdict(each)
    not_before, expires = float(data.pop("not_before", 0)), float(data.pop("expires", 0))
    return _Shown(kind, name, not_before, expires, data.pop("scopes", []), data)


def _digest(kind: str, key: bytes) -> bytes:
    """24 bytes. An API key's is a part of the keyed digest that it is looked up by; kinds cannot be mistaken."""
    if kind == "key":
        return key[:24]
    begun = _BEGUN[kind].copy()
    begun.update(key)
    return begun.digest()


def _consumer(record: _Record) -> Consumer:
    return Consumer(record.id, record.name, frozenset(record.groups), record.plan, record.labels)


def _credential(record: _Record, which: int) -> Credential:
    shown = record.credentials[which]
    scopes = frozenset(shown.scopes)
    return Credential(_consumer(record), shown.id, shown.not_before, shown.expires, scopes, shown.data)


def _remember(decoded: dict[Any, Any], key: object, value: object) -> None:
    if len(decoded) >= DECODED:
        del decoded[next(iter(decoded))]
    decoded[key] = value


def _path(consumer: str) -> str:
    return join(("consumers", consumer))
