"""How long questions about calls take: `python -m benchmarks.questions --calls 10000000`. docs/logs-and-stats.md

A store is filled with calls of some days, with all their rollups, and asked as the control API asks it: through a fresh
cursor, with the memory and the one thread that the store has. Times are the middle of three; CPU time is beside
them, for machines that do something else meanwhile.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import duckdb

from gatewayd.collect import logs, rollups, sources, stats
from gatewayd.collect.filters import Filters
from gatewayd.collect.schema import KEYS
from gatewayd.collect.sketch import bin_sql
from gatewayd.collect.store import Store

BEGIN = 1_790_000_000
"""Seconds since the epoch."""
_S = 1_000_000
_BATCH = 250_000
Question = Callable[[duckdb.DuckDBPyConnection], Any]

_CALLS = """
    SELECT 'calls-' || (i % 2) AS chain, i // 2 + 1 AS number,
    make_timestamp({begin} + i * {step} + (hash(i) % 400000)::BIGINT) AS "at",
    md5(i::VARCHAR) AS request_id, md5('t' || i) AS trace_id, substr(md5('s' || i), 1, 16) AS span_id, '' AS parent_id,
    i % 10 = 0 AS sampled, 'tenant-' || (c % 5) AS tenant, 'partner-' || c AS consumer, 'key-' || c AS credential,
    'api_key' AS auth, 'plan-' || (c % 3) AS plan, 'route-' || r AS route, 'service-' || (r % 10) AS service,
    '/v1/thing' || r || '/{{id}}' AS operation, CASE WHEN i % 4 = 0 THEN 'POST' ELSE 'GET' END AS method,
    'https' AS listener, 'api' || (r % 4) || '.example' AS host, 'https' AS scheme, st AS status,
    CASE st WHEN 429 THEN 'rate_limited' WHEN 401 THEN 'credential_missing' ELSE '' END AS code,
    CASE WHEN st = 502 THEN 'connect_refused' ELSE '' END AS reason, 'keys:passed fair:passed' AS verdicts,
    '10.0.0.' || (h % 20) || ':9000' AS target, 1 AS attempts, us AS total_us, us * 8 // 10 AS upstream_us,
    400 + h % 300 AS bytes_in, 500 + h % 20000 AS bytes_out, '192.0.2.' || (c % 250) AS client, '' AS peer,
    'agent/' || (c % 50) AS agent, substr(md5('v' || (i % 1000000)), 1, 16) AS "values", 'TLSv1.3' AS tls,
    '' AS fingerprint, 7 AS generation, md5('u' || c) AS subject, NULL AS captured
    FROM (
        SELECT i, hash(i * 7 + 1) % 100000 AS h, (pow((hash(i * 3) % 100000) / 1e5, 3) * 500)::INTEGER AS c,
        (pow((hash(i * 5) % 100000) / 1e5, 2) * 40)::INTEGER AS r,
        CASE WHEN hash(i * 11) % 1000 < 900 THEN 200 WHEN hash(i * 11) % 1000 < 930 THEN 404
             WHEN hash(i * 11) % 1000 < 960 THEN 429 WHEN hash(i * 11) % 1000 < 980 THEN 401
             WHEN hash(i * 11) % 1000 < 990 THEN 502 ELSE 500 END AS st,
        exp(6 + 3 * ((hash(i * 13) % 100000) / 1e5 + (hash(i * 17) % 100000) / 1e5))::BIGINT AS us
        FROM range({first}, {last}) x(i)
    )
"""
_SUMS = """
    count(*) AS calls, 0 AS s1xx, count(*) FILTER (status // 100 = 2) AS s2xx, 0 AS s3xx,
    count(*) FILTER (status // 100 = 4) AS s4xx, count(*) FILTER (status >= 500) AS s5xx, 0 AS s499,
    count(*) FILTER (code <> '') AS refused, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out,
    sum(total_us) AS total_us, sum(upstream_us) AS upstream_us
"""


def fill(store: Store, calls: int, days: float) -> None:
    """Make up calls, and add them as the collector does."""
    step = int(days * 86_400 * _S / calls)
    keys = f"""time_bucket(INTERVAL '10 seconds', "at") AS bucket, {", ".join(KEYS)}"""
    with store.cursor() as cursor:
        for first in range(0, calls, _BATCH):
            last = min(calls, first + _BATCH)
            made = _CALLS.format(begin=BEGIN * _S, step=step, first=first, last=last)
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE made AS {made}")
            cursor.execute("INSERT INTO calls BY NAME FROM made")
            cursor.execute(f"INSERT INTO rollup_10s BY NAME SELECT {keys}, {_SUMS} FROM made GROUP BY ALL")
            bins = f"{keys}, {bin_sql('total_us')} AS bin, count(*) AS calls"
            cursor.execute(f"INSERT INTO latency_10s BY NAME SELECT {bins} FROM made GROUP BY ALL")
            rollups.cascade(cursor, BEGIN + last * step / _S)
        cursor.execute("DROP TABLE made")
        cursor.execute("INSERT INTO positions SELECT chain, 0, 0, '', max(number) FROM calls GROUP BY chain")
        cursor.execute("CHECKPOINT")


def _compare(begin: int, end: int, by: str, order: str) -> Question:
    """The second half of a period against the first."""
    middle = (begin + end) // 2

    def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
        now, then = (sources.source_of(cursor, Filters(), *each, by) for each in ((middle, end), (begin, middle)))
        return stats.compare(cursor, now, then, by, order, 10)

    return ask


def questions(calls: int, days: float) -> dict[str, Question]:
    """What is asked, by what it is called."""
    begin, end = BEGIN * _S, int((BEGIN + days * 86_400) * _S)
    third = begin + (end - begin) // 3 + 7 * _S

    def page(**filters: Any) -> Question:
        return partial(logs.page, filters=Filters(**filters), order="newest", limit=100, behind=None)

    def top(by: str, order: str, since: int = begin, **filters: Any) -> Question:
        def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
            source = sources.source_of(cursor, Filters(**filters), since, end, by)
            return stats.top(cursor, source, by, order, 10)

        return ask

    def series(step: str | None, **filters: Any) -> Question:
        def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
            source, found = sources.series_of(cursor, Filters(**filters), begin, end, step, exact=False)
            return stats.series(cursor, source, found)

        return ask

    one = {"exact": {"consumer": ("partner-3",)}}
    return {
        "logs: latest": page(),
        "logs: latest of a consumer": page(**one),
        "logs: 5xx of a consumer with few calls": page(exact={"consumer": ("partner-480",)}, status=((500, 599),)),
        "logs: a request id that is not there": page(exact={"request_id": ("5" * 31 + "a",)}),
        "logs: a text that is nowhere": page(text="zzzz"),
        "logs: a text of many": page(text="thing7/"),
        "logs: what came in": partial(logs.news, filters=Filters(), since={"calls-0": calls // 2 - 50}, limit=100),
        "top routes by calls": top("route", "calls"),
        "top routes by p99, since an odd time": top("route", "p99", since=third),
        "top consumers by calls": top("consumer", "calls"),
        "top consumers by p99": top("consumer", "p99"),
        "top routes of a consumer": top("route", "calls", **one),
        "top statuses (from calls)": top("status", "calls"),
        "top targets by p99 (from calls)": top("target", "p99"),
        "top codes of errors (from calls)": top("code", "calls", status=((400, 599),)),
        "compare routes by calls": _compare(begin, end, "route", "calls"),
        "compare consumers by p99": _compare(begin, end, "consumer", "p99"),
        "compare statuses (from calls)": _compare(begin, end, "status", "calls"),
        "series": series(None),
        "series, hours": series("1h"),
        "series of 5xx (from calls)": series(None, status=((500, 599),)),
    }


def timed(store: Store, question: Question) -> tuple[float, float]:
    """The middle of three: seconds, and seconds of CPU."""
    found = []
    for _ in range(3):
        with store.cursor() as cursor:
            wall, cpu = time.perf_counter(), time.process_time()
            question(cursor)
            found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return median(wall for wall, _ in found), median(cpu for _, cpu in found)


@click.command()
@click.option("--calls", default=1_000_000, show_default=True)
@click.option("--days", default=7.0, show_default=True, help="What they are spread over.")
@click.option("--keep", type=click.Path(path_type=Path), help="The store's file, used again if it is there.")
def main(calls: int, days: float, keep: Path | None) -> None:
    """Print how long each question takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder, "calls.duckdb")
        there = path.exists()
        store = Store(path)
        if not there:
            fill(store, calls, days)
            store.close()  # questions begin with nothing in memory
        click.echo(f"{calls:,} calls of {days:g} days, {store.size() / 1e6:,.0f} MB on disk")
        click.echo("   wall     cpu")
        for name, question in questions(calls, days).items():
            wall, cpu = timed(store, question)
            click.echo(f"{wall:6.3f}s {cpu:6.3f}s  {name}", nl=True)
        store.close()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        click.echo(f"peak memory of the process {peak} MiB, {store.memory // 2**20} MiB of it the store's")


if __name__ == "__main__":
    main()
