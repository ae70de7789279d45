"""How long questions about calls take: `python -m benchmarks.questions --calls 10000000`. docs/logs-and-stats.md

A store is filled with calls of some days, with all their rollups, and asked as the control API asks it: through a fresh
cursor, with the memory and the one thread that the store has. Each question is asked *cold* first, of a store that was
just opened and whose file the system keeps nothing of in memory, then some times *warm*. CPU time is beside what the
clock says, for machines that do something else meanwhile.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

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
_ONE = {"exact": {"consumer": ("partner-3",)}}

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


def _page(**filters: Any) -> Question:
    return partial(logs.page, filters=Filters(**filters), order="newest", limit=100, behind=None)


def _top(begin: int, end: int, by: str, order: str, **filters: Any) -> Question:
    def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
        source = sources.source_of(cursor, Filters(**filters), begin, end, by)
        return stats.top(cursor, source, by, order, 10)

    return ask


def _series(begin: int, end: int, step: str | None, **filters: Any) -> Question:
    def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
        source, found = sources.series_of(cursor, Filters(**filters), begin, end, step, exact=False)
        return stats.series(cursor, source, found)

    return ask


def questions(calls: int, days: float) -> dict[str, Question]:
    """What is asked, by what it is called."""
    begin, end = BEGIN * _S, int((BEGIN + days * 86_400) * _S)
    return {**_about_calls(calls), **_about_figures(begin, end), **_about_changes(begin, end)}


def _about_calls(calls: int) -> dict[str, Question]:
    return {
        "logs: latest": _page(),
        "logs: latest of a consumer": _page(**_ONE),
        "logs: 5xx of a consumer with few calls": _page(exact={"consumer": ("partner-480",)}, status=((500, 599),)),
        "logs: a request id that is not there": _page(exact={"request_id": ("5" * 31 + "a",)}),
        "logs: a text that is nowhere": _page(text="zzzz"),
        "logs: a text of many": _page(text="thing7/"),
        "logs: what came in": partial(logs.news, filters=Filters(), since={"calls-0": calls // 2 - 50}, limit=100),
    }


def _about_figures(begin: int, end: int) -> dict[str, Question]:
    odd = begin + (end - begin) // 3 + 7 * _S
    return {
        "top routes by calls": _top(begin, end, "route", "calls"),
        "top routes by p99, since an odd time": _top(odd, end, "route", "p99"),
        "top consumers by calls": _top(begin, end, "consumer", "calls"),
        "top consumers by p99": _top(begin, end, "consumer", "p99"),
        "top routes of a consumer": _top(begin, end, "route", "calls", **_ONE),
        "top statuses (from calls)": _top(begin, end, "status", "calls"),
        "top targets by p99 (from calls)": _top(begin, end, "target", "p99"),
        "top clients (from calls)": _top(begin, end, "client", "calls"),
        "top codes of errors (from calls)": _top(begin, end, "code", "calls", status=((400, 599),)),
    }


def _about_changes(begin: int, end: int) -> dict[str, Question]:
    return {
        "compare routes by calls": _compare(begin, end, "route", "calls"),
        "compare consumers by p99": _compare(begin, end, "consumer", "p99"),
        "compare statuses (from calls)": _compare(begin, end, "status", "calls"),
        "series": _series(begin, end, None),
        "series, hours": _series(begin, end, "1h"),
        "series of 5xx (from calls)": _series(begin, end, None, status=((500, 599),)),
    }


class Taken(NamedTuple):
    """Seconds that a question took."""

    wall: float
    cpu: float


def _taken(store: Store, question: Question) -> Taken:
    with store.cursor() as cursor:
        wall, cpu = time.perf_counter(), time.process_time()
        question(cursor)
        return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def chill(store: Store) -> None:
    """Have nothing of the store in memory: neither here nor in the system's cache of its file (posix_fadvise(2))."""
    store.close()
    with store.cursor() as cursor:  # opening it reads its schema; that is the daemon's start, not the question's time
        cursor.execute("SELECT 1")
    assert store.path is not None
    file = os.open(store.path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def timed(store: Store, question: Question, times: int) -> tuple[Taken, list[Taken]]:
    """Once cold, then some times warm."""
    chill(store)
    cold = _taken(store, question)
    return cold, [_taken(store, question) for _ in range(times)]


def _print(calls: int, days: float, store: Store, times: int) -> None:
    click.echo(f"{calls:,} calls of {days:g} days, {store.size() / 1e6:,.0f} MB on disk; load {os.getloadavg()[0]:.1f}")
    click.echo("   cold     cpu |    p50     max     cpu  (seconds)")
    for name, question in questions(calls, days).items():
        cold, warm = timed(store, question, times)
        walls = [each.wall for each in warm]
        shown = f"{median(walls):7.3f} {max(walls):7.3f} {median(each.cpu for each in warm):7.3f}"
        click.echo(f"{cold.wall:7.3f} {cold.cpu:7.3f} |{shown}  {name}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    click.echo(f"peak memory of the process {peak} MiB, {store.memory // 2**20} MiB of it the store's")


@click.command()
@click.option("--calls", default=1_000_000, show_default=True)
@click.option("--days", default=7.0, show_default=True, help="What they are spread over.")
@click.option("--times", default=9, show_default=True, help="How often each is asked warm.")
@click.option("--keep", type=click.Path(path_type=Path), help="The store's file, used again if it is there.")
def main(calls: int, days: float, times: int, keep: Path | None) -> None:
    """Print how long each question takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder, "calls.duckdb")
        there = path.exists()
        store = Store(path)
        if not there:
            fill(store, calls, days)
        _print(calls, days, store, times)
        store.close()


if __name__ == "__main__":
    main()
