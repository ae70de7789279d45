"""The route of a configuration that a call on record takes, from what the record tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from gatewayd.audit.record import Call
from gatewayd.config.model import Document
from gatewayd.gateway import recalled
from gatewayd.gateway.recalled import Hash, Map, Way, Ways
from gatewayd.gateway.unrecorded import NotOnRecord

HIDDEN = b"[redacted]"
"""What captured values hold that were taken out (`audit.redaction`)."""


class Retracing:
    """Finds the ways of calls through the routes of `document`."""

    def __init__(self, document: Document, serving: Document | None, hashed: Hash | None, preflights: bool) -> None:
        """`preflights`: some route takes them. For `serving` and `hashed` see `gateway.candidate.Candidate`."""
        self._map = Map(document)
        self._ways = Ways(self._map, Map(serving) if serving is not None else None, hashed)
        self._preflights = preflights

    def way(self, call: Call) -> Way | str:
        """The way of `call`, or the code with which it is refused. Raises `NotOnRecord`."""
        if not self._map.has(call.listener):
            return "no_listener"
        if self._preflights and call.method == b"OPTIONS":
            # CORS preflights are routed by what they ask for.
            raise NotOnRecord("what a request with OPTIONS asks for, which may be a preflight")
        operation, personal = call.operation, call.personal
        values = personal.values if personal is not None else []
        asked = recalled.Call(call.listener, call.host, call.method, operation.route, operation.template)
        passed: list[tuple[Way, bool | None]] = []
        for way in self._ways.of(asked):
            fits = _fits(way, values)
            if fits is False:
                continue
            if way.takes and fits and self._met(way, call):
                return way
            if way.takes and fits is None:
                raise NotOnRecord(f"a value of the path, which decides whether {way.route} is meant")
            passed.append((way, fits))
        return _refusal(passed)

    def _met(self, way: Way, call: Call) -> bool:
        """Whether the way's conditions are met."""
        if way.conditions is None:
            return True
        missing = recalled.unmet(way.conditions, shown_headers(call), _parameters(call))
        if missing is None:
            raise NotOnRecord(f"headers or query, which decide whether {way.route} is meant")
        return not missing


def shown_headers(call: Call) -> list[tuple[bytes, bytes]]:
    """The request's headers whose values are on record."""
    captured = call.personal.captured if call.personal is not None else None
    return [] if captured is None else [pair for pair in captured.request_headers if HIDDEN not in pair[1]]


def _fits(way: Way, values: list[bytes]) -> bool | None:
    """Whether the path is one of the way's; None: that is not known. `values` are the hashes on record."""
    known = way.match.sure
    for number, wanted in way.match.tests:
        if number >= len(values):
            known = False
        elif values[number] != wanted:
            return False
    return True if known else None


def _refusal(passed: list[tuple[Way, bool | None]]) -> str:
    """What is answered where all ways are passed over: 405 if none takes the method (`Router.match`)."""
    if any(way.takes for way, _ in passed):
        return "route_not_found"
    if any(fits for _, fits in passed):
        return "method_not_allowed"
    if passed:
        raise NotOnRecord(f"a value of the path, which decides whether {passed[0][0].route} is meant")
    return "route_not_found"


def _parameters(call: Call) -> list[tuple[bytes, bytes]] | None:
    """The query's parameters; None if they are not on record."""
    captured = call.personal.captured if call.personal is not None else None
    if captured is None or captured.query is None or HIDDEN in captured.query:
        return None
    return list(_taken_apart(captured.query))


def _taken_apart(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    for piece in query.split(b"&"):
        if piece:
            name, _, value = piece.replace(b"+", b" ").partition(b"=")
            yield unquote_to_bytes(name), unquote_to_bytes(value)
