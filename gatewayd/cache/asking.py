"""The request that a fetch makes: one caller's, made into everyone's."""

from __future__ import annotations

from gatewayd.cache.entry import Entry
from gatewayd.core.exchange import Downstream, Exchange, Headers

_OF_ONE_CALLER = frozenset((b"if-none-match", b"if-modified-since", b"range", b"if-range"))
"""Fields about what one caller holds already."""
_TAKEN_OVER = (
    "host", "path", "query", "withheld", "http_version", "via", "peer_trusted", "forwarding", "client", "client_port",
    "identity", "params",
)  # fmt: skip


def ask_for_all(exchange: Exchange, downstream: Downstream, conditions: Headers, now: float) -> Exchange:
    """An exchange whose reply goes to `downstream`, begun at monotonic second `now`: the GET of `exchange`, with
    `conditions` instead of its own.
    """
    inner = Exchange(
        downstream, exchange.listener, exchange.scheme, exchange.peer, exchange.tls, exchange.request_id, now
    )
    for name in _TAKEN_OVER:
        setattr(inner, name, getattr(exchange, name))
    inner.method = b"GET"
    inner.headers = [pair for pair in exchange.headers if pair[0] not in _OF_ONE_CALLER]
    inner.headers += conditions
    return inner


def conditions_for(candidates: list[Entry], fits: bool) -> Headers:
    """What asks the target whether one of the stored replies is still right (RFC 9111 §4.3.1).

    `fits`: the only one is the very reply that the request would get; else only a tag can tell.
    """
    found: Headers = []
    tags = [entry.held.etag for entry in candidates if entry.held.etag]
    if tags:
        found.append((b"if-none-match", b", ".join(tags)))
    if fits and candidates[0].held.last_modified is not None:
        found.append((b"if-modified-since", candidates[0].held.last_modified_text))
    return found
