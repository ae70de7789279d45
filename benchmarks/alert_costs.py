"""What looking for alerts costs: `python -m benchmarks.alert_costs`. docs/anomalies.md

A store is filled with weeks of hours of many consumers on many routes and a last hour of single calls; then the
detectors look at it as they do after a first start, once a minute, at the end of an hour and on a new day. What is
printed is CPU time of this process, and its memory.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import click
from duckdb import DuckDBPyConnection

from benchmarks.months import DAY, HOUR, START
from gatewayd.collect.store import Store
from gatewayd.collect.usual import stamp
from gatewayd.collect.watching import Watching
from gatewayd.config.model import Document

END = START + 56 * DAY + 12 * HOUR
EACH = 3
"""Routes of a consumer."""
_HOURS = """
INSERT INTO rollup_1h BY NAME
SELECT make_timestamp(($day + h * 3600)::BIGINT * 1000000) AS bucket, '' AS tenant, 's' AS service,
       format('r{:03d}', ((c * 37 + n * 61) % $routes)::BIGINT) AS route, format('c{:04d}', c) AS consumer,
       (20 + hash(c, n) % 300 + hash(c, n, h, $day) % 30)::UBIGINT AS calls, 0 AS s1xx, calls - 2 AS s2xx, 0 AS s3xx,
       1 AS s4xx, 1 AS s5xx, 0 AS s499, 0 AS refused, calls * 300 AS bytes_in, calls * 3000 AS bytes_out,
       calls * 50000 AS total_us, calls * 45000 AS upstream_us
FROM range($consumers) a(c), range($each) b(n), range(24) d(h)
"""
_LATENCIES = """
INSERT INTO latency_1h BY NAME
SELECT bucket, tenant, route, service, consumer, (latency_bin(40000) + step * 4)::USMALLINT AS bin,
       (calls // 6)::UBIGINT AS calls
FROM rollup_1h, range(6) b(step) WHERE bucket >= $since AND bucket < $until
"""
_MINUTES = """
INSERT INTO rollup_1m BY NAME
SELECT bucket + to_minutes(m) AS bucket, tenant, route, service, consumer, 2 AS calls, 0 AS s1xx, 2 AS s2xx, 0 AS s3xx,
       0 AS s4xx, 0 AS s5xx, 0 AS s499, 0 AS refused, 600 AS bytes_in, 6000 AS bytes_out, 1 AS total_us,
       1 AS upstream_us
FROM rollup_1h, range(60) b(m) WHERE bucket = $hour
"""
_CALLS = """
INSERT INTO calls BY NAME
SELECT 'x' AS chain, i::UBIGINT AS number, $hour + to_microseconds(i * 5000) AS "at", '' AS tenant,
       format('c{:04d}', i % $consumers) AS consumer, 'k' AS credential, '' AS plan,
       format('r{:03d}', (i % $consumers * 37 % $routes)::BIGINT) AS route, 's' AS service,
       '/v1/' || route || '/{id}' AS operation, 200 AS status, '' AS code, '' AS verdicts, 1000 AS total_us,
       0 AS bytes_in, 10 AS bytes_out, format('10.0.{}.1', i % 250) AS client, 'agent' AS agent,
       format('{:016x}', hash(i % 100000) % 9223372036854775807) AS "values"
FROM range(720000) a(i)
"""


def make(path: Path, consumers: int, routes: int) -> None:
    """Fill a store. In a process of its own: it takes more memory than what is measured."""
    store = Store(path, 1 << 30)
    with store.cursor() as cursor:
        fill(cursor, consumers, routes)
    store.close()


def fill(cursor: DuckDBPyConnection, consumers: int, routes: int) -> None:
    """Eight weeks of hours, and a last hour of minutes and calls."""
    who = {"consumers": consumers, "routes": routes}
    for day in range(END - 56 * DAY, END, DAY):
        cursor.execute(_HOURS, {**who, "day": day, "each": EACH})
        cursor.execute(_LATENCIES, {"since": stamp(day), "until": stamp(day + DAY)})
    cursor.execute(_MINUTES, {"hour": stamp(END - HOUR)})
    cursor.execute(_CALLS, {**who, "hour": stamp(END - HOUR)})
    cursor.execute("INSERT OR REPLACE INTO cascaded VALUES ('1m', $1), ('1h', $1)", [stamp(END)])


def measure(watching: Watching) -> None:
    """Print what each kind of look takes."""

    def look(name: str, since: int | None, until: int) -> None:
        if since is not None:
            watching.ground.peaks.set_mark("looked at", since)
        cpu, began = time.process_time(), time.monotonic()
        watching.look(until)
        spent = time.process_time() - cpu
        click.echo(f"{name}: {spent:.2f} s of CPU, {time.monotonic() - began:.2f} s")

    look("first look, at all weeks", None, END)
    look("a minute", END - 2 * 60, END - 60)
    look("a minute that ends an hour", END - 60, END)
    watching.ground.usual._learned = -1
    look("the same, the first of a day", END - 60, END)


@click.command(context_settings={"show_default": True})
@click.option("--consumers", default=2_000)
@click.option("--routes", default=200)
@click.option("--memory", default=64, help="MiB that the database may use.")
def main(consumers: int, routes: int, memory: int) -> None:
    """Measure what looks cost."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calls.duckdb")
        making = multiprocessing.get_context("spawn").Process(target=make, args=(path, consumers, routes))
        making.start()
        making.join()
        _looked_at(Store(path, memory << 20))
    click.echo(f"most memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _looked_at(store: Store) -> None:
    watching = Watching(store.cursor(), Document())
    try:
        measure(watching)
    finally:
        watching.close()
        store.close()


if __name__ == "__main__":
    main()
