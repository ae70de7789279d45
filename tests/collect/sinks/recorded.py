"""A call store with calls of a test's choosing."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gatewayd.audit.record import Captured
from gatewayd.collect.schema import CALLS_COLUMNS
from gatewayd.collect.sinks.fields import Origin
from gatewayd.collect.store import Store

ORIGIN = Origin("0123456789abcdef", "edge-1")
CALL = {
    "at": "2026-03-01 12:00:00.000001",
    "request_id": "r",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "sampled": True,
    "consumer": "acme",
    "route": "quotes",
    "service": "quotes",
    "operation": "/v1/quotes/{id}",
    "method": "GET",
    "status": 200,
    "verdicts": "key:passed",
    "attempts": 1,
    "total_us": 1500,
    "bytes_out": 541,
    "generation": 3,
    "client": "192.0.2.7",
    "agent": 'curl/8 "quoted"',
    "values": "00ff 11ee",
    "subject": "aa" * 16,
}
CAPTURED = msgspec.msgpack.encode(
    Captured([(b"accept", b"*/*")], b'{"a":1}', reply_headers=[(b"x-latin", b"\xe4")], reply_body=b"\xff\x00")
)
DEFAULTS = {"VARCHAR": "", "BOOLEAN": False, "BLOB": None, "TIMESTAMP": None}
"""Of columns that a call does not mention; 0 for numbers."""


def opened(folder: Path) -> Store:
    """A store with nothing in it."""
    return Store(folder / "calls.duckdb")


def put(store: Store, count: int = 1, chain: str = "calls-0", first: int | None = None, **values: object) -> None:
    """Ingest calls: numbers go on from the last of their chain, request ids tell them apart."""
    call = {name: DEFAULTS.get(kind, 0) for name, kind in CALLS_COLUMNS.items()} | CALL | {"chain": chain} | values
    with store.cursor() as cursor:
        if first is None:
            cursor.execute("SELECT coalesce(max(number), 0) + 1 FROM calls WHERE chain = ?", [chain])
            (first,) = cursor.fetchone()
        call["number"] = first
        selected = {name: f"${name}::{kind}" for name, kind in CALLS_COLUMNS.items()}
        selected["number"] = "$number::UBIGINT + range"
        selected["request_id"] = "$chain::VARCHAR || '-' || ($number::UBIGINT + range)" if count > 1 else "$request_id"
        call = {name: value for name, value in call.items() if count == 1 or name != "request_id"}
        cursor.execute(f"INSERT INTO calls SELECT {', '.join(selected.values())} FROM range({count})", call)


def names(count: int, chain: str = "calls-0", first: int = 1) -> list[tuple[str, int]]:
    """Chains and numbers of records in a row."""
    return [(chain, number) for number in range(first, first + count)]
