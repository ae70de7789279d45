"""Calls in a store of a test's own, as the collector would have put them there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatewayd.collect.schema import CALLS_COLUMNS
from gatewayd.collect.store import Store

WALL = 1_800_000_000.25
"""When the first call of a test was, Unix time."""
CALL: dict[str, Any] = {
    "request_id": "1f0c",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "parent_id": "b7ad6b7169203331",
    "sampled": True,
    "tenant": "north",
    "consumer": "portal",
    "credential": "k1",
    "auth": "api_key",
    "plan": "gold",
    "route": "quotes",
    "service": "quotes",
    "operation": "/v1/quotes/{id}",
    "method": "GET",
    "listener": "https",
    "host": "api.example:8443",
    "scheme": "https",
    "status": 200,
    "code": "",
    "reason": "",
    "verdicts": "",
    "target": "10.0.0.7:9000",
    "attempts": 1,
    "total_us": 1500,
    "upstream_us": 1200,
    "bytes_in": 0,
    "bytes_out": 541,
    "client": "203.0.113.7",
    "peer": "",
    "agent": "curl/8.5.0",
    "values": None,
    "tls": "TLSv1.3",
    "fingerprint": "",
    "generation": 3,
    "subject": "",
    "captured": None,
}
"""A call that went well."""


def open_store(folder: Path) -> Store:
    """A store without calls."""
    return Store(folder / "calls.duckdb")


def add(store: Store, chain: str, number: int, at: float = WALL, **columns: Any) -> None:
    """Put a call there; `at` is Unix time."""
    moment = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
    values = CALL | {"chain": chain, "number": number, "at": moment} | columns
    marks = ", ".join("?" * len(CALLS_COLUMNS))
    with store.cursor() as cursor:
        cursor.begin()
        cursor.execute(f"INSERT INTO calls VALUES ({marks})", [values[name] for name in CALLS_COLUMNS])
        cursor.execute(
            "INSERT INTO positions VALUES (?, 1, 0, NULL, ?) "
            "ON CONFLICT (chain) DO UPDATE SET records = excluded.records",
            [chain, number],
        )
        cursor.commit()
