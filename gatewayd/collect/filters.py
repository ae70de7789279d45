"""Which calls a question is about, as SQL. Values are parameters always; columns come from the lists here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewayd.collect.parameters import BadParameters, Parameter, moment, resolved, status, text
from gatewayd.errors import Fault

EXACT = {
    "tenant": "The consumer's label `tenant`.",
    "consumer": 'Who called; "": nobody known.',
    "credential": "The credential it was known by.",
    "plan": "The plan it called on.",
    "route": 'The route; "": none matched.',
    "service": "The service behind the route.",
    "operation": "The route's path with its parameters unfilled, such as `/v1/policies/{id}`.",
    "method": "The HTTP method.",
    "listener": "Where the call came in.",
    "host": "The host that was asked for.",
    "code": 'The problem code of a refusal made here; "": not refused.',
    "reason": "Why an upstream failed.",
    "target": "Address of the last target tried.",
    "request_id": "The call's id.",
    "trace_id": "The trace it belongs to.",
    "client": "The caller's address, as it was kept (`audit.addresses`).",
    "subject": "Whose key seals what is personal in it (hexadecimal).",
}
"""Columns that are compared as they are, and what they hold."""
SEARCHED = (
    "operation",
    "code",
    "reason",
    "host",
    "target",
    "verdicts",
    "route",
    "service",
    "consumer",
    "credential",
)
"""Columns in which a text is looked for, in any case; they hold few different values."""
_IDS = re.compile(r"[A-Za-z0-9._\-]+", re.ASCII)
"""What a request id consists of (`policies.request_id`)."""

FILTERS: tuple[Parameter, ...] = (
    *(text(name, meaning, many=True) for name, meaning in EXACT.items()),
    status("status", "A status, a class such as `5xx`, or a range such as `400-499`."),
    text("text", f"A text that occurs in one of {', '.join(SEARCHED)}, in any case, or in the request id as it is."),
    moment("from", "From this time on: RFC 3339 with its zone, a date (UTC), or how long ago such as `15m`."),
    moment("to", "Until this time, itself not included."),
)


@dataclass(frozen=True, slots=True)
class Filters:
    """Calls that fulfil all of this; times in microseconds since the epoch, of several values one is enough."""

    begin: int | None = None
    end: int | None = None
    exact: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By column, of `EXACT`."""
    status: tuple[tuple[int, int], ...] = ()
    """Lowest and highest."""
    text: str = ""


def filters_of(values: Mapping[str, Any], now: float) -> Filters:
    """The filters among what `read_all` made of `FILTERS`. Raises `BadParameters` for a period that ends too soon."""
    begin, end = resolved(values["from"], now), resolved(values["to"], now)
    if begin is not None and end is not None and begin >= end:
        raise BadParameters([Fault("to", "is not after `from`")])
    exact = {name: values[name] for name in EXACT if values[name]}
    return Filters(begin, end, exact, values["status"], values["text"] or "")


def where(filters: Filters) -> tuple[str, list[object]]:
    """The condition on `calls`, and its parameters in order."""
    said = [*_period(filters), *_exact(filters.exact.items()), *_status(filters.status), *_text(filters.text)]
    parameters = [value for _, values in said for value in values]
    return " AND ".join(condition for condition, _ in said) or "true", parameters


def quoted(column: str) -> str:
    """A column as an identifier: `at` and `values` are words of SQL."""
    return f'"{column}"'


Condition = tuple[str, list[object]]


def _period(filters: Filters) -> Iterable[Condition]:
    if filters.begin is not None:
        yield '"at" >= make_timestamp(?)', [filters.begin]
    if filters.end is not None:
        yield '"at" < make_timestamp(?)', [filters.end]


def _exact(exact: Iterable[tuple[str, tuple[str, ...]]]) -> Iterable[Condition]:
    for column, values in exact:
        if column not in EXACT:
            raise ValueError(f"no filter for {column}")
        yield f"{quoted(column)} IN ({', '.join('?' * len(values))})", list(values)


def _status(ranges: tuple[tuple[int, int], ...]) -> Iterable[Condition]:
    if ranges:
        each = " OR ".join('"status" BETWEEN ? AND ?' for _ in ranges)
        yield f"({each})", [bound for pair in ranges for bound in pair]


def _text(wanted: str) -> Iterable[Condition]:
    """Request ids are all different, so to search them costs more than all the rest: only for what could be one."""
    if not wanted:
        return
    parts = [f"contains(lower({quoted(column)}), lower(?))" for column in SEARCHED]
    if _IDS.fullmatch(wanted):
        parts.append('contains("request_id", ?)')
    yield f"({' OR '.join(parts)})", [wanted] * len(parts)
