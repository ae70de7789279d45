"""A call store in memory, and what detectors need to look at it: hours of rollups and single calls, put in by hand."""

from __future__ import annotations

from datetime import UTC, datetime

from gatewayd.collect.baselines import Calendar
from gatewayd.collect.ground import Ground
from gatewayd.collect.peaks import Peaks
from gatewayd.collect.sketch import bin_of
from gatewayd.collect.store import Store
from gatewayd.collect.usual import Usual, stamp
from gatewayd.config.alerts import Alerts
from gatewayd.config.model import Document

HOUR, DAY = 3_600, 86_400
MONDAY = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())


def opened(folder) -> Store:
    """A store that is empty."""
    return Store(folder / "calls.duckdb", 1 << 28)


def ground_of(store: Store, document: Document | None = None, **alerts: object) -> Ground:
    """What detectors stand on."""
    document = document or Document(alerts=Alerts(**alerts))
    cursor = store.cursor()
    calendar = Calendar(UTC)
    return Ground(cursor, document, calendar, Usual(cursor, calendar, 8, 3), Peaks(cursor), cursor)


def add_hour(cursor, at, calls, consumer="acme", route="claims", tier="1h", us=50_000, size=1_000, **sums):
    """A row of a rollup, and its latencies: all calls took `us`."""
    values = {"calls": calls, "bytes_out": calls * size, "total_us": calls * us, **sums}
    names = ["calls", "s1xx", "s2xx", "s3xx", "s4xx", "s5xx", "s499", "refused", "bytes_in", "bytes_out", "total_us"]
    row = [stamp(at), "", route, "s", consumer, *(values.get(name, 0) for name in names), 0]
    cursor.execute(f"INSERT INTO rollup_{tier} VALUES ({', '.join('?' * len(row))})", row)
    if tier == "1h":
        cursor.execute(
            "INSERT INTO latency_1h VALUES (?, '', ?, 's', ?, ?, ?)", [stamp(at), route, consumer, bin_of(us), calls]
        )


def add_hours(cursor, calls, consumer="acme", route="claims"):
    """Many hours at once: calls by the second an hour begins."""
    cursor.execute(
        """
        INSERT INTO rollup_1h BY NAME
        SELECT unnest($1) AS bucket, '' AS tenant, $2 AS route, 's' AS service, $3 AS consumer, unnest($4) AS calls,
               0 AS s4xx, 0 AS s5xx, 0 AS refused, 0 AS bytes_in, unnest($4) * 1000 AS bytes_out, 0 AS total_us
        """,
        [list(map(stamp, calls)), route, consumer, list(calls.values())],
    )


def add_calls(cursor, at, count=1, **columns):
    """Calls at one time; columns that are not said are ''. `values`: one for each call."""
    known = {
        "consumer": "acme",
        "credential": "key",
        "route": "claims",
        "operation": "/v1/claims/{id}",
        "status": 200,
        "client": "192.0.2.1",
        "agent": "curl",
        "plan": "",
        "code": "",
        "verdicts": "",
        "values": "00",
        "total_us": 1_000,
        "bytes_in": 0,
        "bytes_out": 1_000,
        **columns,
    }
    several = {name: value for name, value in known.items() if isinstance(value, list)}
    count = max([count, *(len(value) for value in several.values())])
    names = ", ".join(f'"{name}"' for name in known)
    marks = ", ".join("unnest(?)" if name in several else "?" for name in known)
    more = "" if several else f" FROM range({count})"
    cursor.execute(f'INSERT INTO calls ("at", {names}) SELECT ?, {marks}{more}', [stamp(at), *known.values()])


def complete(cursor, until):
    """Say that rollups are complete until then."""
    cursor.execute("INSERT OR REPLACE INTO cascaded VALUES ('1m', $1), ('1h', $1)", [stamp(until)])
