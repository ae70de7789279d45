"""What requests are counted by: address, consumer, credential, route, a header, a claim, or several of these together.

What a request does not have is counted by its address: who is not identified, a header that is missing. An IPv6 address
counts as its /64, for whoever holds one address of it commonly holds them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from hashlib import blake2b
from typing import Annotated

from msgspec import Meta

from gatewayd.core.cidr import holder
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Consumers
from gatewayd.errors import Fault
from gatewayd.limits.table import IDENTIFIED, OWN, STRANGER

_TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PATTERN = rf"^(address|consumer|credential|route|header:{_TCHARS}|claim:[^\x00-\x1f\x7f]+)$"
_ALLOWED = '"address", "consumer", "credential", "route", "header:<name>" or "claim:<name>"'
KeyName = Annotated[str, Meta(pattern=_PATTERN, extra={"allowed": _ALLOWED})]
KeyNames = str | list[KeyName]
"""One name, or several: each combination counts. `key_faults` looks at the one, for a text with a pattern in a union
with a list makes msgspec (0.22) write where it must not."""

Part = Hashable
"""What a request has under one name. A tuple of one text is an address that stands in for something missing."""
_Take = Callable[[Exchange], Part]
_LONGEST = 64
"""Bytes of a value that are kept as they are; of longer ones the digest stands for them, so that no table grows."""


def names_of(key: KeyNames) -> list[str]:
    """The names of an option `key`."""
    return [key] if isinstance(key, str) else key


def key_faults(key: KeyNames) -> Iterator[Fault]:
    """What its type does not say of an option `key`."""
    names = names_of(key)
    if not names or len(set(names)) < len(names):
        yield Fault("key", "names nothing, or something twice", allowed="different parts of a key")
    if isinstance(key, str) and not re.search(_PATTERN, key):
        yield Fault("key", "not allowed", key, _ALLOWED)


class Keys:
    """The keys of one limit. `of(exchange)` is its key, which can be hashed; `place(key)` tells where that counts."""

    def __init__(self, names: Sequence[str], consumers: Consumers) -> None:
        """`names` as configurations write them (`KeyName`), one at least."""
        self._names = tuple(names)
        self._consumers = consumers
        takes = tuple(_take(name) for name in names)
        self.of: _Take = takes[0] if len(takes) == 1 else lambda exchange: tuple([take(exchange) for take in takes])

    def tell(self, exchange: Exchange) -> bool:
        """Whether an exchange on any route shows what its caller counts under.

        One without an address is an operator's question about a consumer.
        """
        return "route" not in self._names and (exchange.client != "" or self._names == ("consumer",))

    def place(self, key: Part) -> tuple[bytes, int]:
        """(The key as bytes; `OWN`, `IDENTIFIED` or `STRANGER`). Own rows are for what the configuration bounds."""
        parts = key if len(self._names) > 1 and isinstance(key, tuple) else (key,)
        texts, kinds = [], set()
        for name, part in zip(self._names, parts, strict=True):
            text, kind = self._part(name, part)
            texts.append(b"%d:%b" % (len(text), text))
            if name != "route":  # a route never makes a key known, nor a stranger's
                kinds.add(kind)
        if kinds <= {OWN}:
            return b"".join(texts), OWN
        return b"".join(texts), STRANGER if kinds == {STRANGER} else IDENTIFIED

    def _part(self, name: str, part: Part) -> tuple[bytes, int]:
        if isinstance(part, tuple) and len(part) == 1:
            name, part = "address", part[0]
        if name == "address":
            return b"address\0" + holder(str(part)).encode(), STRANGER
        if isinstance(part, bytes):
            return name.encode() + b"\0" + part, STRANGER
        words = part if isinstance(part, tuple) else (part,)
        text = "\0".join([name, *map(str, words)]).encode("utf-8", "surrogatepass")
        return text, OWN if self._is_known(name, str(words[0])) else IDENTIFIED

    def _is_known(self, name: str, consumer: str) -> bool:
        return name in ("consumer", "credential") and self._consumers.by_id(consumer) is not None


def _take(name: str) -> _Take:
    """What reads the part `name` of an exchange's key."""
    kind, _, detail = name.partition(":")
    if kind == "header":
        return _header(detail.lower().encode())
    if kind == "claim":
        return _claim(detail)
    return {"address": _address, "consumer": _consumer, "credential": _credential, "route": _route}[kind]


def _address(exchange: Exchange) -> Part:
    return exchange.client


def _consumer(exchange: Exchange) -> Part:
    identity = exchange.identity
    return identity.consumer.id if identity is not None else (exchange.client,)


def _credential(exchange: Exchange) -> Part:
    identity = exchange.identity
    return (identity.consumer.id, identity.credential) if identity is not None else (exchange.client,)


def _route(exchange: Exchange) -> Part:
    return exchange.route.name if exchange.route is not None else ""


def _header(name: bytes) -> _Take:
    def take(exchange: Exchange) -> Part:
        for found, value in exchange.headers:
            if found == name:
                return value if len(value) <= _LONGEST else blake2b(value).digest()
        return (exchange.client,)

    return take


def _claim(name: str) -> _Take:
    def take(exchange: Exchange) -> Part:
        value = exchange.identity.claims.get(name) if exchange.identity is not None else None
        if value is None:
            return (exchange.client,)
        text = str(value)
        return text if len(text) <= _LONGEST else blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()

    return take
