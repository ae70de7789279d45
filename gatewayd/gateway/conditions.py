"""What a route asks of headers and query beyond host, path and method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from gatewayd.core.exchange import Exchange
from gatewayd.rfc.headers import is_withheld

Wanted = tuple[bytes, bytes | None]
"""A name, and the exact value it must have; None: any."""


class Conditions:
    """Headers and query parameters that a route asks for; all of them must be met.

    A field or parameter that is repeated meets an exact value only if every copy has it: what a target
    might read differently does not match.
    """

    __slots__ = ("fields", "query", "withheld")

    def __init__(self, headers: Mapping[str, str], query: Mapping[str, str]) -> None:
        wanted = sorted(_wanted(headers))
        self.fields = tuple(pair for pair in wanted if not is_withheld(pair[0]))
        self.withheld = tuple(pair for pair in wanted if is_withheld(pair[0]))
        self.query = tuple(sorted(_wanted(query)))

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts more specific conditions first: more of them, then more exact values."""
        wanted = (*self.fields, *self.withheld, *self.query)
        return -len(wanted), -sum(value is not None for _, value in wanted)

    def unmet(self, exchange: Exchange) -> str:
        """The first condition that `exchange` does not meet, "" if it meets all."""
        for name, value in self.fields:
            if not _met(exchange.headers, name, value):
                return _shown("header", name, value)
        for name, value in self.withheld:
            if not _met(exchange.withheld, name, value):
                return _shown("header", name, value)
        if self.query:
            parameters = _parameters(exchange.query)
            for name, value in self.query:
                if not _met(parameters, name, value):
                    return _shown("query", name, value)
        return ""

    def excludes(self, other: Conditions) -> bool:
        """Whether no request meets both."""
        return any(
            _contradict(mine, its)
            for mine, its in (
                (self.fields, other.fields),
                (self.withheld, other.withheld),
                (self.query, other.query),
            )
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditions) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[tuple[Wanted, ...], ...]:
        return self.fields, self.withheld, self.query

    def __str__(self) -> str:
        headers = [_shown("header", name, value) for name, value in (*self.fields, *self.withheld)]
        return ", ".join(headers + [_shown("query", name, value) for name, value in self.query])


def _wanted(conditions: Mapping[str, str]) -> Iterable[Wanted]:
    for name, value in conditions.items():
        yield name.encode(), None if value == "*" else value.encode()


def _shown(kind: str, name: bytes, value: bytes | None) -> str:
    text = f"{kind} {name.decode(errors='replace')}"
    return text if value is None else f"{text} = {value.decode(errors='replace')}"


def _met(pairs: list[tuple[bytes, bytes]], name: bytes, wanted: bytes | None) -> bool:
    met = False
    for found, value in pairs:
        if found == name:
            if wanted is not None and value != wanted:
                return False
            met = True
    return met


def _contradict(one: tuple[Wanted, ...], other: tuple[Wanted, ...]) -> bool:
    others = dict(other)
    for name, value in one:
        its = others.get(name)
        if value is not None and its is not None and value != its:
            return True
    return False


def _parameters(query: bytes | None) -> list[tuple[bytes, bytes]]:
    """The query's parameters, decoded as forms are (`application/x-www-form-urlencoded`, WHATWG URL
    §5.1).
    """
    if not query:
        return []
    parts = [piece.partition(b"=") for piece in query.split(b"&") if piece]
    return [(_decoded(name), _decoded(value)) for name, _, value in parts]


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text
