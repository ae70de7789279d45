"""The tables of the call store, and how one that was made by an older gatewayd becomes as new.

A migration is never changed once it was published; what changes later is another one behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from gatewayd.collect import sketch


class Tier(NamedTuple):
    """One resolution of the rollups."""

    name: str
    """Ends the names of its tables."""
    seconds: int
    unit: str = ""

    def trunc(self, moment: str) -> str:
        """SQL for the bucket of the TIMESTAMP expression `moment`; not for the finest."""
        return f"date_trunc('{self.unit}', {moment})"


TIERS: Final = (Tier("10s", 10), Tier("1m", 60, "minute"), Tier("1h", 3600, "hour"), Tier("1d", 86400, "day"))
KINDS: Final = ("rollup", "latency")
CALLS_COLUMNS: Final = {
    "chain": "VARCHAR",
    "number": "UBIGINT",
    "at": "TIMESTAMP",
    "request_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "parent_id": "VARCHAR",
    "sampled": "BOOLEAN",
    "tenant": "VARCHAR",
    "consumer": "VARCHAR",
    "credential": "VARCHAR",
    "auth": "VARCHAR",
    "plan": "VARCHAR",
    "route": "VARCHAR",
    "service": "VARCHAR",
    "operation": "VARCHAR",
    "method": "VARCHAR",
    "listener": "VARCHAR",
    "host": "VARCHAR",
    "scheme": "VARCHAR",
    "status": "USMALLINT",
    "code": "VARCHAR",
    "reason": "VARCHAR",
    "verdicts": "VARCHAR",
    "target": "VARCHAR",
    "attempts": "UTINYINT",
    "total_us": "UBIGINT",
    "upstream_us": "UBIGINT",
    "bytes_in": "UBIGINT",
    "bytes_out": "UBIGINT",
    "client": "VARCHAR",
    "peer": "VARCHAR",
    "agent": "VARCHAR",
    "values": "VARCHAR",
    "tls": "VARCHAR",
    "fingerprint": "VARCHAR",
    "generation": "UINTEGER",
    "subject": "VARCHAR",
    "captured": "BLOB",
}
PERSONAL: Final = ("client", "peer", "agent", "values", "captured")
"""Columns of `calls` that are NULL once their person was erased."""
KEYS: Final = ("tenant", "route", "service", "consumer")
"""What rollups are by, beside the time."""
SUMS: Final = (
    "calls",
    "s1xx",
    "s2xx",
    "s3xx",
    "s4xx",
    "s5xx",
    "s499",
    "refused",
    "bytes_in",
    "bytes_out",
    "total_us",
    "upstream_us",
)


def _columns(columns: dict[str, str]) -> str:
    return ", ".join(f'"{name}" {kind}' for name, kind in columns.items())


def _rollups() -> str:
    keys = {"bucket": "TIMESTAMP"} | dict.fromkeys(KEYS, "VARCHAR")
    sums = _columns(keys | dict.fromkeys(SUMS, "UBIGINT"))
    bins = _columns(keys | {"bin": "USMALLINT", "calls": "UBIGINT"})
    return "".join(
        f"CREATE TABLE rollup_{tier.name} ({sums}); CREATE TABLE latency_{tier.name} ({bins});" for tier in TIERS
    )


def moment(seconds: int) -> str:
    """SQL for a TIMESTAMP, `seconds` since the epoch."""
    return f"make_timestamp({seconds * 1_000_000})"


def views(marks: Mapping[str, int]) -> str:
    """SQL that makes the views `<kind>_<tier>_now`: a tier up to its mark (`rollups`), and what the finer ones have
    behind theirs. `marks` by name of the tier, seconds since the epoch."""
    return "".join(_view(kind, index, marks) for kind in KINDS for index in range(len(TIERS)))


def _view(kind: str, index: int, marks: Mapping[str, int]) -> str:
    tier = TIERS[index]
    parts = [f"FROM {kind}_{tier.name}"]
    for upper, finer in zip(TIERS[index:0:-1], TIERS[index - 1 :: -1], strict=True) if index else ():
        columns = f"{tier.trunc('bucket')} AS bucket, * EXCLUDE (bucket)"
        parts.append(f"SELECT {columns} FROM {kind}_{finer.name} WHERE bucket >= {moment(marks[upper.name])}")  # noqa: S608
    return f"CREATE OR REPLACE VIEW {kind}_{tier.name}_now AS {' UNION ALL '.join(parts)};"


MIGRATIONS: Final = (
    f"""
    CREATE TABLE calls ({_columns(CALLS_COLUMNS)});
    {_rollups()}
    CREATE TABLE positions (chain VARCHAR PRIMARY KEY, segment UBIGINT, "offset" UBIGINT, previous BLOB,
                            records UBIGINT);
    CREATE TABLE cascaded (tier VARCHAR PRIMARY KEY, until TIMESTAMP);
    CREATE TABLE erased (subject VARCHAR PRIMARY KEY, marked UBIGINT);
    CREATE TABLE exports (name VARCHAR PRIMARY KEY, position UBIGINT);
    CREATE TABLE alerts (id VARCHAR, "at" TIMESTAMP, detector VARCHAR, subject VARCHAR, severity VARCHAR, text VARCHAR,
                         baseline DOUBLE, observed DOUBLE, contributors VARCHAR, resolved_at TIMESTAMP);
    {views(dict.fromkeys((tier.name for tier in TIERS), 0))}
    CREATE MACRO latency_bin(us) AS {sketch.bin_sql("us")};
    CREATE MACRO latency_bound(bin) AS {sketch.upper_bound_sql("bin")};
    """,
)
"""What brings a store from version n to n + 1, for n from 0."""
