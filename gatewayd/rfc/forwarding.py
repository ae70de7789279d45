"""Who asked, through whom: `Forwarded` (RFC 7239), `X-Forwarded-*` and `Via` (RFC 9110 §7.6.3), read and written anew.

What an untrusted peer says about others is discarded; then everything follows from its connection and is made once.
From a trusted proxy `X-Forwarded-For` is walked from the right, where the nearest proxy wrote, to the left, over
trusted addresses only: the first one that is not trusted is the client, and what stands further left is its claim and
is dropped. `Forwarded` is read where there is no `X-Forwarded-For`; a trusted proxy therefore has to write or remove
both. `X-Forwarded-Port` is never sent, for the port stands in `X-Forwarded-Host`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple, Protocol

from gatewayd.rfc.headers import HeaderList, elements, is_token

MAX_HOPS = 32
"""Addresses looked at in one request; a longer chain ends there, at a trusted proxy."""

MAX_FORWARDED = 4096
"""Longest `Forwarded` value read (bytes)."""

_REMEMBERED_BYTES = 256
"""Longest claims that are remembered (bytes in all), for callers have a say in them."""
_NO_TRUST: frozenset[str] = frozenset()
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~-]{1,253})(?::[0-9]{1,5})?")
# forwarded-pair of RFC 7239 §4
_PAIR = re.compile(rb"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=([!#$%&'*+\-.^_`|~0-9A-Za-z]+|\"(?:[^\"\\]|\\.)*\")[ \t]*")


class Addresses(Protocol):
    """A set of addresses, such as `core.cidr.CidrSet`."""

    def __contains__(self, address: str, /) -> bool:
        """Whether the address is one of them; False for what is no address."""
        ...


class Sight(NamedTuple):
    """What a request tells about its origin. `headers` go to the target; the list is shared, so it is never changed."""

    client: str
    client_port: int
    scheme: bytes
    headers: HeaderList


class Edges:
    """The far end of one connection: made when it is accepted, asked once per request.

    `peer` is the connection's address (or PROXY protocol's), "" for a unix socket; `trusted` holds the proxies whose
    word is taken. `peer` and `client` are in canonical form: no IPv4-mapped IPv6, no zone.
    """

    __slots__ = ("_host", "_sight", "_trusted", "peer", "port", "scheme", "trusted")

    def __init__(self, trusted: Addresses | None, peer: str, port: int, scheme: bytes) -> None:
        self._trusted: Addresses = _NO_TRUST if trusted is None else trusted
        self.peer = canonical(peer) or peer
        self.port = port
        self.scheme = scheme
        self.trusted = self.peer in self._trusted
        self._host: bytes | None = None
        self._sight: Sight | None = None

    def look(self, host: bytes, withheld: HeaderList) -> Sight:
        """What is known of the request with this `Host` (b"" if none) and these withheld fields."""
        if self.trusted:
            return self._look_through(host, withheld)
        if self._sight is None or host != self._host:
            self._host = host
            chain = [self.peer.encode() or b"unknown"]
            self._sight = Sight(self.peer, self.port, self.scheme, forwarding_headers(chain, host, self.scheme))
        return self._sight

    def _look_through(self, host: bytes, withheld: HeaderList) -> Sight:
        chain: bytes | None = None
        forwarded: tuple[bytes, ...] = ()
        scheme = claimed = b""
        size = 0
        for name, value in withheld:
            if name == b"x-forwarded-for":
                chain = value if chain is None else b"%b,%b" % (chain, value)
            elif name == b"x-forwarded-proto":
                scheme = value
            elif name == b"x-forwarded-host":
                claimed = value
            elif name == b"forwarded":
                forwarded = (*forwarded, value)
            else:
                continue
            size += len(value)
        judge = _judge if size <= _REMEMBERED_BYTES else _judge.__wrapped__
        sight = judge(_Claims(self._trusted, self.peer, self.scheme, host, chain, forwarded, scheme, claimed))
        return sight if sight.client_port >= 0 else sight._replace(client_port=self.port)


class _Claims(NamedTuple):
    """What a trusted peer says; of several schemes or hosts the last counts, which it wrote itself."""

    trusted: Addresses
    peer: str
    own_scheme: bytes
    host: bytes
    chain: bytes | None
    forwarded: tuple[bytes, ...]
    scheme: bytes
    claimed_host: bytes


@lru_cache(maxsize=1024)
def _judge(claims: _Claims) -> Sight:
    """What a trusted peer's claims come to; client port -1 where the client is the peer.

    Remembered, because behind a load balancer the same callers come again and again over its connections.
    """
    hops, scheme, claimed = _read(claims)
    chain, port = _walk(claims, hops)
    if scheme not in (b"http", b"https"):
        scheme = claims.own_scheme
    host = claimed.lower() if _HOST.fullmatch(claimed) else claims.host
    headers = forwarding_headers([address.encode() or b"unknown" for address in chain], host, scheme)
    return Sight(chain[0], port, scheme, headers)


def _read(claims: _Claims) -> tuple[list[bytes], bytes, bytes]:
    """Addresses from far to near, scheme and host; b"" where nothing is said."""
    scheme = claims.scheme.rpartition(b",")[2].strip().lower()
    host = claims.claimed_host.rpartition(b",")[2].strip()
    if claims.chain is not None:
        return [hop.strip(b" \t") for hop in claims.chain.rsplit(b",", MAX_HOPS + 1)], scheme, host
    found = [parameters for value in claims.forwarded for parameters in read_forwarded(value)]
    nearest = found[-1] if found else {}
    hops = [parameters.get(b"for", b"unknown") for parameters in found]
    return hops, scheme or nearest.get(b"proto", b"").lower(), host or nearest.get(b"host", b"")


def _walk(claims: _Claims, hops: list[bytes]) -> tuple[list[str], int]:
    """The believed chain, client first and the peer last, and the client's port (0: not told, -1: the peer's)."""
    chain = [claims.peer]
    port = -1
    for hop in reversed(hops):
        found = read_address(hop)
        if found is None or len(chain) > MAX_HOPS:
            break
        address, port = found
        chain.append(address)
        if address not in claims.trusted:
            break
    chain.reverse()
    return chain, port


def canonical(address: str) -> str:
    """The one spelling of an address: IPv4 for IPv4-mapped IPv6, no zone; "" for what is no address."""
    try:
        if ":" not in address:
            return inet_ntop(AF_INET, inet_pton(AF_INET, address))
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return ""
    if packed.startswith(_MAPPED):
        return inet_ntop(AF_INET, packed[12:])
    return inet_ntop(AF_INET6, packed)


_MAPPED = bytes(10) + b"\xff\xff"


def read_address(entry: bytes) -> tuple[str, int] | None:
    """Address and port (0 if none) of an `X-Forwarded-For` entry or a `for` node; None if it names no address.

    IPv6 may stand bare, in brackets, or in brackets with a port; zones, names, `unknown` and `_hidden` are no address.
    """
    text = entry.decode("latin-1")
    port = ""
    if text[:1] == "[":
        text, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in text or (port and port[0] != ":"):
            return None
        has_port, port = bool(port), port[1:]
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        has_port = True
    else:
        has_port = False
    if "%" in text or (has_port and not (port.isascii() and port.isdigit() and len(port) <= 5)):
        return None
    address = canonical(text)
    return (address, int(port or 0)) if address else None


def read_forwarded(value: bytes) -> list[dict[bytes, bytes]]:
    """The elements of a `Forwarded` value as `{lower-case parameter: unquoted value}` (RFC 7239 §4).

    A malformed or overlong value comes back as one empty element: whoever wrote what in it can no longer be told.
    """
    if len(value) > MAX_FORWARDED:
        return [{}]
    found: list[dict[bytes, bytes]] = []
    parameters: dict[bytes, bytes] = {}
    at = 0
    while at < len(value):
        match = _PAIR.match(value, at)
        if match is None or value[match.end() : match.end() + 1] not in (b"", b";", b","):
            return [{}]
        name = match[1].lower()
        if name in parameters:
            return [{}]
        parameters[name] = _unquoted(match[2])
        at = match.end() + 1
        if value[match.end() : at] == b",":
            found.append(parameters)
            parameters = {}
    if parameters:
        found.append(parameters)
    return found


def _unquoted(text: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", text[1:-1]) if text[:1] == b'"' else text


def forwarding_headers(chain: list[bytes], host: bytes, scheme: bytes) -> HeaderList:
    """The fields for the target; `chain`: the client first, the connection's peer last; b"unknown" for no address."""
    headers = [(b"x-forwarded-for", b", ".join(chain)), (b"x-forwarded-proto", scheme)]
    first = b"for=%b;proto=%b" % (_identifier(chain[0]), scheme)
    if host:
        headers.append((b"x-forwarded-host", host))
        first = b"for=%b;host=%b;proto=%b" % (_identifier(chain[0]), host if is_token(host) else b'"%b"' % host, scheme)
    headers.append((b"forwarded", b", ".join([first, *[b"for=" + _identifier(address) for address in chain[1:]]])))
    return headers


def _identifier(address: bytes) -> bytes:
    return b'"[%b]"' % address if b":" in address else address


class Via:
    """Our place in `Via`, and how often a request may come by.

    `pseudonym` is a token. Several gateways in a row may share the default pseudonym, so only `loop_after` entries of
    our own make a loop; such a request is answered 508 (RFC 5842 §7.2).
    """

    __slots__ = ("_http_1_1", "_loop_after", "_pseudonym")

    def __init__(self, pseudonym: str, loop_after: int = 5) -> None:
        self._pseudonym = pseudonym.encode()
        self._http_1_1 = b"1.1 " + self._pseudonym
        self._loop_after = loop_after

    def value(self, http_version: bytes, seen: list[bytes]) -> bytes:
        """The field's value for a message received in `http_version` with these `Via` values."""
        own = self._http_1_1 if http_version == b"1.1" else b"%b %b" % (http_version, self._pseudonym)
        return b", ".join([*seen, own]) if seen else own

    def loops(self, seen: list[bytes]) -> bool:
        """Whether a request with these `Via` values has come by too often."""
        if b",".join(seen).count(self._pseudonym) < self._loop_after:
            return False
        words = [element.split(None, 2) for element in elements(seen)]
        return sum(len(parts) > 1 and parts[1] == self._pseudonym for parts in words) >= self._loop_after
