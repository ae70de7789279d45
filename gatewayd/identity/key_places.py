"""Where a request may show an API key: one header, as it is or behind a scheme, and perhaps a query parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

from gatewayd.core.exchange import Exchange

Place = Callable[[Exchange, bool], list[bytes]]
"""All keys that a request shows there. True: they are taken out of what is sent on."""


def in_header(name: str) -> Place:
    """A header that holds the key and nothing else."""
    wanted = name.lower().encode()

    def find(exchange: Exchange, take: bool) -> list[bytes]:
        headers = exchange.headers
        found = [value for field, value in headers if field == wanted]
        if take:
            for value in found:
                headers.remove((wanted, value))
        return found

    return find


def behind_scheme(name: str, scheme: str, is_key: Callable[[bytes], bool]) -> Place:
    """A header such as `Authorization: Bearer gw_…`; what is not `is_key` is left alone: a token, say."""
    wanted, start = name.lower().encode(), scheme.lower().encode() + b" "
    length = len(start)

    def find(exchange: Exchange, take: bool) -> list[bytes]:
        headers = exchange.headers
        found = []
        for shown in [value for field, value in headers if field == wanted]:
            key = shown[length:].strip(b" ")
            if shown[:length].lower() == start and is_key(key):
                found.append(key)
                if take:
                    headers.remove((wanted, shown))
        return found

    return find


def in_query(name: str) -> Place:
    """A parameter of the query, however its name is escaped."""
    wanted = name.encode()

    def find(exchange: Exchange, take: bool) -> list[bytes]:
        if not exchange.query:
            return []
        parts = exchange.query.split(b"&")
        found = [part for part in parts if _decoded(part.partition(b"=")[0]) == wanted]
        if found and take:
            exchange.query = b"&".join(part for part in parts if part not in found) or None
        return [_decoded(part.partition(b"=")[2]) for part in found]

    return find


def anywhere(places: Sequence[Place]) -> Place:
    """All of `places` together."""
    if len(places) == 1:
        return places[0]
    return lambda exchange, take: [key for place in places for key in place(exchange, take)]


def _decoded(text: bytes) -> bytes:
    """As forms write it (application/x-www-form-urlencoded)."""
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text
