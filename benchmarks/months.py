"""Ten weeks of an insurer's traffic, made up: hours of rollups for the past, single calls for the last weeks.

Consumers come in kinds (portals with people behind them, offices, integrations, batch jobs by night, week and month,
bursts on demand), in very different sizes, each on a few routes. Around that: days and weeks, growth, month ends,
holidays, noise, consumers that are new, and deployments that make a route a little slower or faster. All of it follows
from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import numpy as np
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from gatewayd.collect.usual import stamp

HOUR, DAY, WEEK = 3_600, 86_400, 7 * 86_400
START = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
"""A Monday."""
HOLIDAYS = ("2026-01-06", "2026-02-16", "2026-03-09")
"""The configuration knows of these …"""
BRIDGE = "2026-03-06"
"""… and not of this day, on which a part of the people stay at home."""
KINDS = {
    "portal": 0.33,
    "office": 0.30,
    "steady": 0.15,
    "nightly": 0.08,
    "weekly": 0.04,
    "monthly": 0.03,
    "bursty": 0.07,
}
AGENTS = 24
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = dict[str, NDArray[np.generic]]
"""Calls, a column each; all as numbers, `SELECT` makes texts of them."""


@dataclass
class Consumer:
    """Who calls, and how."""

    number: int
    kind: str
    size: float
    """Calls an hour in the mean of a normal week."""
    routes: list[int]
    weights: Floats
    since: int
    """The first hour it is there."""
    growth: float
    month_end: float
    noise: float
    refused: float
    """Share of its calls that are answered 4xx."""
    networks: int
    ids: int
    """How many different ones it asks for."""
    shift: int
    """Hours by which its day is moved, or at which its batch runs."""
    plan: str = ""

    @property
    def name(self) -> str:
        """As in the store."""
        return f"c{self.number:03d}"


@dataclass
class Route:
    """What is called, and how it answers."""

    number: int
    latency: Floats
    """Microseconds by hour, without noise."""
    bytes: float
    failed: float
    """Share of calls answered 5xx."""

    @property
    def name(self) -> str:
        """As in the store."""
        return f"r{self.number:02d}"


@dataclass
class World:
    """All of it, without faults."""

    seed: int
    weeks: int = 10
    consumers_wanted: int = 200
    routes_wanted: int = 30
    calls: float = 8_000.0
    """An hour, in the mean."""
    consumers: list[Consumer] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.hours = self.weeks * 168
        self.times = START + HOUR * np.arange(self.hours)
        self.routes = [self._route(number) for number in range(self.routes_wanted)]
        self.consumers = [self._consumer(number) for number in range(self.consumers_wanted)]
        total = sum(each.size for each in self.consumers)
        for each in self.consumers:
            each.size *= self.calls / total
        self.levels = {each.number: self._level(each) for each in self.consumers}

    def _route(self, number: int) -> Route:
        rng = self.rng
        latency = np.full(self.hours, rng.lognormal(np.log(40_000), 0.7))
        for _ in range(rng.integers(2, 5)):  # deployments
            latency[rng.integers(0, self.hours) :] *= np.exp(np.clip(rng.normal(0, 0.06), -0.12, 0.12))
        latency *= np.exp(self._swing(0.04, 0.8))
        return Route(number, latency, rng.lognormal(np.log(6_000), 1.0), rng.uniform(0.001, 0.006))

    def _consumer(self, number: int) -> Consumer:
        rng = self.rng
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        routes = [int(each) for each in rng.choice(self.routes_wanted, size=rng.integers(1, 7), replace=False)]
        new = rng.random() < 0.06
        batch = kind in ("nightly", "weekly", "monthly")
        return Consumer(
            number,
            kind,
            float(rng.lognormal(0, 1.3)) * {"weekly": 0.1, "monthly": 0.05}.get(kind, 1.0),
            routes,
            rng.dirichlet(np.full(len(routes), 0.8)),
            int(rng.integers(2 * 168, self.hours)) if new else 0,
            float(rng.normal(0.01, 0.01)) if rng.random() < 0.95 else 0.06,
            1.7 if rng.random() < 0.4 else 1.0,
            float(rng.uniform(0.08, 0.22)),
            float(rng.uniform(0.005, 0.06)),
            int(rng.integers(1, 4)) if rng.random() < 0.9 else int(rng.integers(20, 60)),
            1_000_000 if batch else int(rng.integers(50, 2_000)),
            int(rng.integers(0, 6)) if batch else int(rng.integers(-1, 2)),
        )

    def _level(self, consumer: Consumer) -> Floats:
        """Calls expected in each hour."""
        shape = self._shape(consumer)
        level = shape / max(shape.mean(), 1e-9) * consumer.size
        level *= (1 + consumer.growth) ** (np.arange(self.hours) / 168 - self.weeks / 2)
        noise = self.rng.normal(0, consumer.noise, self.hours) + self._swing(0.1, 0.9)
        level *= np.exp(noise)
        level[: consumer.since] = 0
        return level

    def _swing(self, spread: float, kept: float) -> Floats:
        """Noise that goes on for hours: of each hour so much is kept in the next."""
        steps = self.rng.normal(0, spread * np.sqrt(1 - kept**2), self.hours)
        for hour in range(1, self.hours):
            steps[hour] += kept * steps[hour - 1]
        return steps

    def _shape(self, consumer: Consumer) -> Floats:
        """The form of its weeks."""
        rng = self.rng
        local = [datetime.fromtimestamp(int(each), UTC) for each in self.times]
        hour = np.array([each.hour for each in local])
        days = np.array([self._weekday(each.date()) for each in local])
        weekend = days >= 5
        near_end = np.array(
            [
                each.day == 1 or (each.month != datetime.fromtimestamp(each.timestamp() + 2 * DAY, UTC).month)
                for each in local
            ]
        )
        day = np.exp(-(((hour - 13 - consumer.shift) / 4.5) ** 2))
        if consumer.kind == "portal":
            shape = (0.03 + day) * np.where(weekend, 0.35, 1.0)
        elif consumer.kind == "office":
            shape = day * ((hour >= 7) & (hour < 19) & ~weekend)
        elif consumer.kind == "steady":
            shape = 0.7 + 0.3 * day
        elif consumer.kind == "bursty":
            shape = np.where(rng.random(self.hours) < 0.04, rng.lognormal(0, 0.8, self.hours), 0.002)
        else:
            shape = self._batch(consumer, hour, days, np.array([each.day for each in local]))
        bridge = np.array([each.date().isoformat() == BRIDGE for each in local])
        people = consumer.kind in ("portal", "office")
        return shape * np.where(near_end, consumer.month_end, 1.0) * np.where(bridge & people, 0.7, 1.0)

    def _batch(self, consumer: Consumer, hour: Ints, days: Ints, day: Ints) -> Floats:
        starts = np.where(self.rng.random(self.hours // 24) < 0.1, 1, 0).repeat(24)  # sometimes an hour late
        runs = (hour - consumer.shift - starts) % 24 < 2
        if consumer.kind == "weekly":
            runs &= days == consumer.number % 7
        elif consumer.kind == "monthly":
            runs &= day <= 2
        return runs.astype(float)

    @staticmethod
    def _weekday(day: date) -> int:
        return 6 if day.isoformat() in HOLIDAYS else day.weekday()

    def cells(self, since: int, until: int) -> Rows:
        """Hours of pairs of consumer and route that have calls: how many, and what they are like."""
        columns: dict[str, list[Floats]] = {name: [] for name in ("hour", "consumer", "route", "n")}
        for consumer in self.consumers:
            level = self.levels[consumer.number][since:until]
            for route, weight in zip(consumer.routes, consumer.weights, strict=True):
                n = self.rng.poisson(level * weight)
                at = np.nonzero(n)[0]
                columns["hour"].append(at + since)
                columns["consumer"].append(np.full(len(at), consumer.number))
                columns["route"].append(np.full(len(at), route))
                columns["n"].append(n[at])
        return {name: np.concatenate(parts) for name, parts in columns.items()}

    def past(self, cursor: DuckDBPyConnection, until: int) -> None:
        """Write rollups of the hours before hour number `until`, and the latencies in them."""
        cells = self.cells(0, until)
        n, hour = cells["n"].astype(np.int64), cells["hour"].astype(np.int64)
        consumer, route = cells["consumer"].astype(np.int64), cells["route"].astype(np.int64)
        refused = np.array([each.refused for each in self.consumers])[consumer] * np.exp(
            self.rng.normal(0, 0.3, len(n))
        )
        failed = np.array([each.failed for each in self.routes])[route] * np.exp(self.rng.normal(0, 0.3, len(n)))
        s4xx = self.rng.binomial(n, np.minimum(0.9, refused))
        s5xx = self.rng.binomial(n - s4xx, np.minimum(0.9, failed))
        size = np.array([each.bytes for each in self.routes])[route] * np.exp(self.rng.normal(0.32, 0.8 / np.sqrt(n)))
        latency = np.stack([each.latency for each in self.routes])[route, hour]
        cells |= {"at": START + HOUR * hour, "s4xx": s4xx, "s5xx": s5xx, "bytes": (n * size).astype(np.int64)}
        cells["latency"] = latency * np.exp(self.rng.normal(0, 0.03, len(n)))
        cursor.register("cells", cells)
        cursor.execute(_PAST)
        cursor.execute(_LATENCIES)
        cursor.unregister("cells")

    def calls_of(self, day: int) -> Rows:
        """Single calls of a day, counted from the first."""
        rng = self.rng
        cells = self.cells(day * 24, day * 24 + 24)
        n = cells["n"].astype(np.int64)
        total = int(n.sum())
        hour = np.repeat(cells["hour"].astype(np.int64), n)
        consumer, route = (np.repeat(cells[name].astype(np.int64), n) for name in ("consumer", "route"))
        return self.rows(START + HOUR * hour + rng.random(total) * HOUR, consumer, route)

    def rows(self, at: Floats, consumer: Ints, route: Ints) -> Rows:
        """Calls at these times (seconds), as these consumers make them on these routes."""
        rng, total = self.rng, len(at)
        hour = np.minimum(((at - START) // HOUR).astype(np.int64), self.hours - 1)
        luck = rng.random(total)
        refused = np.array([each.refused for each in self.consumers])[consumer]
        failed = np.array([each.failed for each in self.routes])[route]
        status = np.where(
            luck < refused, np.where(luck < refused / 10, 401, 404), np.where(luck > 1 - failed, 503, 200)
        )
        latency = np.stack([each.latency for each in self.routes])[route, hour]
        networks = np.array([each.networks for each in self.consumers])[consumer]
        ids = np.array([each.ids for each in self.consumers])[consumer]
        return {
            "at": at,
            "consumer": consumer,
            "route": route,
            "status": status,
            "us": (latency * np.exp(rng.normal(0, 0.5, total))).astype(np.int64),
            "bytes": (np.array([each.bytes for each in self.routes])[route] * np.exp(rng.normal(0, 0.8, total))).astype(
                np.int64
            ),
            "network": consumer * 1_000 + (rng.random(total) ** 2 * networks).astype(np.int64),
            "agent": (consumer + (rng.random(total) < 0.1)) % AGENTS,
            "value": (rng.random(total) ** 2 * ids).astype(np.int64),
        }


def write(cursor: DuckDBPyConnection, rows: Rows, plans: dict[str, str]) -> None:
    """Put calls into the store, with the rollups that the collector would make of them."""
    order = np.argsort(rows["at"], kind="stable")
    cursor.register("sent", {name: column[order] for name, column in rows.items()})
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE plans AS SELECT unnest($1) AS name, unnest($2) AS plan",
        [list(plans), list(plans.values())],
    )
    cursor.execute(_CALLS)
    cursor.unregister("sent")
    since = int(rows["at"].min()) // DAY * DAY
    bounds = {"since": stamp(since), "until": stamp(since + DAY)}
    for tier, unit in (("1m", "minute"), ("1h", "hour")):
        cursor.execute(_ROLLUP.format(tier=tier, unit=unit), bounds)
    cursor.execute(_SKETCH, bounds)
    cursor.execute("INSERT OR REPLACE INTO cascaded VALUES ('1m', $1), ('1h', $1)", [stamp(since + DAY)])


_PAST = """
INSERT INTO rollup_1h (bucket, tenant, route, service, consumer, calls, s1xx, s2xx, s3xx, s4xx, s5xx, s499, refused,
                       bytes_in, bytes_out, total_us, upstream_us)
SELECT make_timestamp("at"::BIGINT * 1000000), '', format('r{:02d}', route::BIGINT), 's',
       format('c{:03d}', consumer::BIGINT),
       n, 0, n - s4xx - s5xx, 0, s4xx, s5xx, 0, 0, 0, bytes, n * latency, 0
FROM cells
"""
_LATENCIES = """
INSERT INTO latency_1h (bucket, tenant, route, service, consumer, bin, calls)
SELECT make_timestamp("at"::BIGINT * 1000000), '', format('r{:02d}', route::BIGINT), 's',
       format('c{:03d}', consumer::BIGINT),
       latency_bin((latency * exp(0.5 * z))::BIGINT),
       floor(n * p + (hash("at", consumer, route, z) % 1000) / 1000.0)::UBIGINT AS calls
FROM cells, (VALUES (-1.5, 0.14), (-0.7, 0.2), (-0.2, 0.2), (0.3, 0.2), (0.9, 0.18), (1.645, 0.04), (2.0, 0.02),
                    (2.5, 0.02)) AS t(z, p)
WHERE calls > 0
"""
_CALLS = """
INSERT INTO calls BY NAME
SELECT 'x' AS chain, row_number() OVER () AS number, make_timestamp(("at" * 1000000)::BIGINT) AS "at", '' AS tenant,
       format('c{:03d}', consumer) AS consumer, 'k1' AS credential, coalesce(plan, '') AS plan,
       format('r{:02d}', route) AS route, 's' AS service, format('/v1/r{:02d}/{{id}}', route) AS operation, status,
       CASE WHEN status = 401 THEN 'unauthorized' ELSE '' END AS code, '' AS verdicts, us AS total_us, 0 AS bytes_in,
       bytes AS bytes_out, format('10.{}.{}.7', (network // 250) % 250, network % 250) AS client,
       'agent/' || agent AS agent, format('{:016x}', hash(route, "value") % 9223372036854775807) AS "values"
FROM sent LEFT JOIN plans ON name = format('c{:03d}', consumer) ORDER BY "at"
"""
_ROLLUP = """
INSERT INTO rollup_{tier} (bucket, tenant, route, service, consumer, calls, s1xx, s2xx, s3xx, s4xx, s5xx, s499, refused,
                           bytes_in, bytes_out, total_us, upstream_us)
SELECT date_trunc('{unit}', "at") AS bucket, '', route, 's', consumer, count(*), 0, count(*) FILTER (status < 300), 0,
       count(*) FILTER (status BETWEEN 400 AND 499), count(*) FILTER (status >= 500), 0, count(*) FILTER (code <> ''),
       0, sum(bytes_out), sum(total_us), 0
FROM calls WHERE "at" >= $since AND "at" < $until GROUP BY bucket, route, consumer
"""
_SKETCH = """
INSERT INTO latency_1h (bucket, tenant, route, service, consumer, bin, calls)
SELECT date_trunc('hour', "at") AS bucket, '', route, 's', consumer, latency_bin(total_us) AS bin, count(*)
FROM calls WHERE "at" >= $since AND "at" < $until GROUP BY bucket, route, consumer, bin
"""
