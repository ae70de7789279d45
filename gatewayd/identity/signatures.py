"""Signed requests (RFC 9421): what a signature covers, and whether it is its key's.

What is checked is the request as it goes on: the path in its one spelling (`rfc.path`), the query byte for byte, scheme
and host as the caller meant them. A caller that signs another spelling of a path is refused. Understood are the derived
components of requests and whole fields; what a component's parameters would change (`sf`, `key`, `bs`, `tr`, `req`) is
refused rather than guessed, `name` of `@query-param` apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from gatewayd.core.exchange import Exchange
from gatewayd.identity.jose import Refused
from gatewayd.rfc.headers import values
from gatewayd.rfc.structured import InnerList, Item, Parameters, dictionary, write, write_parameters

INPUT, SIGNATURE, DIGEST = b"signature-input", b"signature", b"content-digest"
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_DIGESTS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
"""The algorithms of RFC 9530 §5 that are no longer broken."""
COMPONENTS = 64
"""A signature may cover so many."""


class Shown(NamedTuple):
    """A signature and what it says about itself."""

    components: InnerList
    identifiers: list[str]
    """The components, each as it is written in what is signed."""
    signature: bytes

    @property
    def parameters(self) -> Parameters:
        """Such as `created` and `keyid`."""
        return self.components.parameters

    def text(self, name: str) -> str:
        """A parameter that is a string, "" if there is none. Raises `Refused`."""
        value = self.parameters.get(name, "")
        if type(value) is not str:
            raise Refused(f"{name} is no string")
        return value

    def time(self, name: str) -> int | None:
        """A parameter that is a time in seconds since the epoch. Raises `Refused`."""
        value = self.parameters.get(name)
        if value is not None and type(value) is not int:
            raise Refused(f"{name} is no time")
        return value

    def covered(self) -> set[str]:
        """The names of what it covers without parameters."""
        return {str(item.value) for item in self.components.items if not item.parameters}


def read(exchange: Exchange, label: str = "") -> Shown | None:
    """The request's signature; None if there is none. With `label` others are not looked at.

    Raises `Refused`: malformed, half of it missing, or, without `label`, more than one: which of them was meant?
    """
    inputs, signatures = values(exchange.headers, INPUT), values(exchange.headers, SIGNATURE)
    if not inputs and not signatures:
        return None
    try:
        described, made = dictionary(b", ".join(inputs)), dictionary(b", ".join(signatures))
    except ValueError as error:
        raise Refused(f"malformed: {error}") from None
    if not label:
        if len(described) != 1 or described.keys() != made.keys():
            raise Refused("not one signature")
        label = next(iter(described))
    elif label not in described and label not in made:
        return None
    components, signature = described.get(label), made.get(label)
    if not isinstance(components, InnerList) or not isinstance(signature, Item):
        raise Refused("malformed: not a list of components, or no signature of it")
    if not isinstance(signature.value, bytes):
        raise Refused("malformed: the signature is not bytes")
    return Shown(components, _identifiers(components), signature.value)


def _identifiers(components: InnerList) -> list[str]:
    """Components are strings in lower case, none of them twice (§2). Raises `Refused`."""
    names = [item.value for item in components.items]
    written = [write(item) for item in components.items]
    if len(set(written)) != len(written) or len(written) > COMPONENTS:
        raise Refused("malformed: a component twice, or too many")
    if not all(type(name) is str and name == name.lower() for name in names):
        raise Refused("malformed: a component that is no name")
    return written


# -- what is signed --------------------------------------------------------------------------------------------------

_WITHIN = {
    "@authority": {"@target-uri"},
    "@scheme": {"@target-uri"},
    "@path": {"@target-uri", "@request-target"},
    "@query": {"@target-uri", "@request-target"},
}
"""Components that others hold."""


def uncovered(shown: Shown, wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that the signature does not cover."""
    covered = shown.covered()
    return [name for name in wanted if name not in covered and covered.isdisjoint(_WITHIN.get(name, ()))]


def base(exchange: Exchange, shown: Shown) -> bytes:
    """The bytes that were signed (§2.5). Raises `Refused` for a component that is not here, or not understood."""
    items = zip(shown.identifiers, shown.components.items, strict=True)
    lines = [b"%b: %b\n" % (identifier.encode(), _value(exchange, item)) for identifier, item in items]
    covered = f"({' '.join(shown.identifiers)}){write_parameters(shown.parameters)}"
    return b"".join(lines) + b'"@signature-params": ' + covered.encode()


def _value(exchange: Exchange, item: Item) -> bytes:
    name = str(item.value)
    if name == "@query-param":
        return _query_parameter(exchange, item.parameters)
    if item.parameters:
        raise Refused(f"{name} with parameters is not understood")
    if name in _DERIVED:
        return _DERIVED[name](exchange)
    found = _field(exchange, name.encode())
    if name.startswith("@") or not found:
        raise Refused(f"{name} is not here")
    return b", ".join(found)


def _field(exchange: Exchange, name: bytes) -> list[bytes]:
    """The values of a field as they came, those that are not sent on included."""
    return values(exchange.headers, name) or values(exchange.withheld, name)


def _authority(exchange: Exchange) -> bytes:
    return exchange.host.removesuffix(_DEFAULT_PORTS.get(exchange.scheme, b":80"))


def _query(exchange: Exchange) -> bytes:
    return b"?" + (exchange.query or b"")


def _request_target(exchange: Exchange) -> bytes:
    return exchange.path if exchange.query is None else b"%b?%b" % (exchange.path, exchange.query)


_DERIVED: Mapping[str, Callable[[Exchange], bytes]] = {
    "@method": lambda exchange: exchange.method,
    "@authority": _authority,
    "@scheme": lambda exchange: exchange.scheme,
    "@path": lambda exchange: exchange.path,
    "@query": _query,
    "@request-target": _request_target,
    "@target-uri": lambda exchange: b"%b://%b%b" % (exchange.scheme, _authority(exchange), _request_target(exchange)),
}  # §2.2


def _query_parameter(exchange: Exchange, parameters: Parameters) -> bytes:
    """§2.2.8. One that stands twice is refused: servers differ in which of them counts."""
    name = parameters.get("name")
    if type(name) is not str or len(parameters) != 1:
        raise Refused("@query-param has no name, or more than one")
    try:
        pairs = parse_qsl((exchange.query or b"").decode(), keep_blank_values=True, errors="strict", max_num_fields=500)
    except ValueError:
        raise Refused("the query cannot be read") from None
    found = [value for key, value in pairs if _form_encoded(key) == name]
    if len(found) != 1:
        raise Refused("the query parameter is not there once")
    return _form_encoded(found[0]).encode()


def _form_encoded(text: str) -> str:
    """With the escapes of `application/x-www-form-urlencoded`, spaces as %20."""
    return quote(text, safe="*-._").replace("~", "%7E")


# -- times and bodies ------------------------------------------------------------------------------------------------


def check_times(shown: Shown, now: float, max_age: float, leeway: float) -> float:
    """Until when the signature could be taken, in seconds since the epoch. Raises `Refused`: not now."""
    created, expires = shown.time("created"), shown.time("expires")
    if created is None:
        raise Refused("created is missing")
    until = created + max_age
    if expires is not None:
        until = min(until, expires)
    if created > now + leeway or until <= now:
        raise Refused("too early, or too late")
    return until


def check_digest(exchange: Exchange, body: bytes) -> None:
    """That `body` is what Content-Digest says (RFC 9530), by every algorithm known here. Raises `Refused`."""
    try:
        said = dictionary(b", ".join(values(exchange.headers, DIGEST)))
    except ValueError:
        raise Refused("Content-Digest is malformed") from None
    known = [(algorithm, said[algorithm]) for algorithm in _DIGESTS if algorithm in said]
    right = [isinstance(item, Item) and item.value == _DIGESTS[name](body).digest() for name, item in known]
    if not right or not all(right):
        raise Refused("the body is not what Content-Digest says")
