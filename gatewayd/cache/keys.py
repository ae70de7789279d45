"""Under which key replies are stored: everything the target may see that is not left to `Vary`.

The method is not in it: a HEAD is answered from what a GET left. The route is, for its conditions may send two requests
with one URI to two services.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from gatewayd.cache.entry import Key
from gatewayd.core.exchange import Exchange

Normalise = Callable[[bytes], bytes | None]
_FORWARDED_HOST = b"x-forwarded-host: "


def key_of(exchange: Exchange, query: bytes | None, whose: Hashable = None) -> Key:
    """The key of a request with the normalised `query`; `whose`: who alone may share the reply, None for everyone."""
    claimed = _claimed_host(exchange) if exchange.peer_trusted else None
    route = exchange.route
    name = None if route is None else route.name
    return (name, exchange.scheme, exchange.host, claimed, exchange.path, query, whose)


def _claimed_host(exchange: Exchange) -> bytes | None:
    """The host that the target is told in `X-Forwarded-Host`: trusted proxies may say another than `Host` does, and
    may have it from anybody."""
    lines = exchange.forwarding
    at = lines.find(_FORWARDED_HOST)
    if at < 0:
        return None
    host = lines[at + len(_FORWARDED_HOST) : lines.find(b"\r\n", at)]
    return None if host == exchange.host else host


def whose(exchange: Exchange) -> Hashable:
    """Who asks, as exactly as credentials tell: several people may be one consumer."""
    identity = exchange.identity
    if identity is None:
        return None
    return (identity.consumer.id, identity.method, identity.credential, str(identity.claims.get("sub", "")))


def query_normaliser(sort: bool, drop: frozenset[bytes]) -> Normalise | None:
    """What brings a query into one form: without the parameters `drop`, sorted by name if `sort`; None for nothing."""
    if not sort and not drop:
        return None

    def normalise(query: bytes) -> bytes | None:
        parts = [part for part in query.split(b"&") if part and part.partition(b"=")[0] not in drop]
        if sort:
            parts.sort(key=lambda part: part.partition(b"=")[0])  # stable: repeated ones keep their order
        return b"&".join(parts) if parts else None

    return normalise
