"""Spans of a call, as OTLP/JSON (opentelemetry-proto 1.x): the call itself, and asking its target within it.

Attributes are named by OpenTelemetry's semantic conventions for HTTP (stable since 1.23), those of our own begin with
`gatewayd.`. Paths are told as templates only: `url.path` may name persons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gatewayd import __version__
from gatewayd.core.trace import asking_span

SERVER, CLIENT = 2, 3
"""Kinds of spans."""
_ERROR = {"code": 2}
_SAMPLED, _TELLS_REMOTE, _REMOTE = 0x001, 0x100, 0x200
"""Flags of a span: those of its trace, and whether its parent is elsewhere."""
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))
_PORTS = {"http": 80, "https": 443}
_GONE = 499
_place = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?").fullmatch
Attributes = list[dict[str, Any]]
Span = dict[str, Any]


class Row(NamedTuple):
    """What of a row of `calls` is told. Names are the columns', but for `at`: microseconds since the epoch."""

    at: int
    request_id: str
    trace_id: str
    span_id: str
    parent_id: str
    tenant: str
    consumer: str
    credential: str
    auth: str
    plan: str
    route: str
    service: str
    operation: str
    method: str
    listener: str
    host: str
    scheme: str
    status: int
    code: str
    reason: str
    verdicts: str
    target: str
    attempts: int
    total_us: int
    upstream_us: int
    bytes_in: int
    bytes_out: int
    client: str | None
    peer: str | None
    agent: str | None
    tls: str
    generation: int


COLUMNS = tuple('epoch_us("at")' if name == "at" else f'"{name}"' for name in Row._fields)
"""SQL for them."""


def attributes(values: Mapping[str, str | int | Sequence[str] | None]) -> Attributes:
    """Attributes as OTLP has them, without those that say nothing."""
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value not in ("", None, ())]


def _value(value: str | int | Sequence[str] | None) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"arrayValue": {"values": [_value(each) for each in value or ()]}}


def request(resource: Attributes, rows: Iterable[Row]) -> tuple[bytes, int]:
    """An `ExportTraceServiceRequest` about these calls, and how many spans are in it."""
    spans = [span for row in rows for span in spans_of(row)]
    scope = {"name": "gatewayd", "version": __version__}
    document = {
        "resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"scope": scope, "spans": spans}]}]
    }
    return orjson.dumps(document), len(spans)


def spans_of(row: Row) -> list[Span]:
    """The call, and asking its target if one was asked. One trace flag is known: that it is sampled."""
    return [_call(row), _asking(row)] if row.attempts else [_call(row)]


def _call(row: Row) -> Span:
    method = row.method if row.method in _METHODS else "HTTP"
    remote = _REMOTE if row.parent_id else 0
    host, port = _host(row.host, row.scheme)
    span = _span(row, row.span_id, row.parent_id, SERVER, f"{method} {row.operation}".rstrip(), row.total_us, remote)
    span["attributes"] = attributes(
        _method(row.method)
        | {
            "url.scheme": row.scheme,
            "http.route": row.operation,
            "http.response.status_code": row.status or None,
            "http.request.body.size": row.bytes_in,
            "http.response.body.size": row.bytes_out,
            "server.address": host,
            "server.port": port,
            "client.address": row.client,
            "network.peer.address": row.peer or row.client,
            "network.protocol.name": "http",
            "user_agent.original": row.agent,
            "error.type": (row.reason or row.code or str(row.status)) if row.status >= 500 else "",
            **_tls(row.tls),
            **_ours(row),
        }
    )
    if row.status >= 500:
        span["status"] = _ERROR
    return span


def _ours(row: Row) -> dict[str, str | int | Sequence[str] | None]:
    return {
        "gatewayd.request_id": row.request_id,
        "gatewayd.tenant": row.tenant,
        "gatewayd.consumer": row.consumer,
        "gatewayd.credential": row.credential,
        "gatewayd.auth": row.auth,
        "gatewayd.plan": row.plan,
        "gatewayd.route": row.route,
        "gatewayd.service": row.service,
        "gatewayd.listener": row.listener,
        "gatewayd.code": row.code,
        "gatewayd.reason": row.reason,
        "gatewayd.verdicts": tuple(row.verdicts.split()),
        "gatewayd.attempts": row.attempts,
        "gatewayd.generation": row.generation,
    }


def _asking(row: Row) -> Span:
    """Asking the target, every attempt included: until the head of its reply, or until nothing came of it."""
    answered = row.upstream_us > 0
    host, port = _host(row.target, "")
    own = answered and not row.code  # the status is the target's
    failed = row.reason if row.reason and row.status != _GONE else str(row.status) if own and row.status >= 400 else ""
    took = row.upstream_us if answered else row.total_us
    name = row.method if row.method in _METHODS else "HTTP"
    span = _span(row, asking_span(row.span_id), row.span_id, CLIENT, name, took)
    span["attributes"] = attributes(
        _method(row.method)
        | {
            "url.template": row.operation,
            "http.response.status_code": row.status if own else None,
            "http.request.resend_count": row.attempts - 1 or None,
            "server.address": host,
            "server.port": port,
            "network.transport": "unix" if row.target.startswith("unix:") else "tcp",
            "network.protocol.name": "http",
            "error.type": failed,
            "gatewayd.service": row.service,
        }
    )
    if failed:
        span["status"] = _ERROR
    return span


def _span(row: Row, span_id: str, parent_id: str, kind: int, name: str, took: int, remote: int = 0) -> Span:
    span: Span = {
        "traceId": row.trace_id,
        "spanId": span_id,
        "flags": _SAMPLED | _TELLS_REMOTE | remote,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": f"{row.at}000",
        "endTimeUnixNano": f"{row.at + took}000",
    }
    if parent_id:
        span["parentSpanId"] = parent_id
    return span


def _method(method: str) -> dict[str, str | int | Sequence[str] | None]:
    if method in _METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method}


def _tls(version: str) -> dict[str, str]:
    """`TLSv1.3` as the conventions tell it."""
    name, _, number = version.partition("v")
    return {"tls.protocol.name": name.lower(), "tls.protocol.version": number} if name == "TLS" else {}


def _host(text: str, scheme: str) -> tuple[str, int | None]:
    """Host and port, of a Host field or a target's address; a scheme's own port where none is said."""
    if text.startswith("unix:"):
        return text.removeprefix("unix:"), None
    match = _place(text)
    if match is None:
        return text, None
    return match[1].strip("[]"), int(match[2]) if match[2] else _PORTS.get(scheme) if text else None
