"""What is usual, kept in the store: one row per hour and subject, from which medians are made when an hour is judged.

`usual_1h` is filled from the rollups once an hour is over, so that a judgement reads one hour of these and not weeks,
and outlives their retention. Once a day `learn` works out what does not depend on the hour: whom to watch, how much a
subject varies, how far it strays in one hour of a hundred, how it drifts. Every judgement sees earlier data alone.
"""

from __future__ import annotations

# ruff: noqa: S608 - all SQL is made of constants of this project, values are parameters
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from duckdb import DuckDBPyConnection

from gatewayd.collect.baselines import DAY, ENOUGH_DAYS, HOUR, NORMAL, SCALES, SLOTS, Calendar, Level, Scale

MOST = 2_000
"""Consumers, and routes, that are watched: those with most calls."""
TOGETHER = 64
"""Subjects of which it is worked out at a time, metric by metric: medians need all values in memory."""
WILD = 3
"""The wildest days but two say how far a subject strays: so that what went wrong on two days is not usual."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS usual_1h (
    bucket TIMESTAMP, kind VARCHAR, subject VARCHAR,
    calls DOUBLE, s4xx DOUBLE, s5xx DOUBLE, denied DOUBLE, bytes DOUBLE, p95 DOUBLE)
"""
KIND = "CASE grouping(consumer, route) WHEN 1 THEN 'consumer' WHEN 2 THEN 'route' ELSE 'gateway' END"
SUBJECT = "coalesce(consumer, route, '')"
"""Columns of a query that is grouped by `sets`."""


def sets(*columns: str) -> str:
    """Grouping by consumer, by route and as a whole, each with further `columns`."""
    more = "".join(f", {column}" for column in columns)
    return f"GROUP BY GROUPING SETS ((consumer{more}), (route{more}), ({', '.join(columns)}))"


_FILL = f"""
INSERT INTO usual_1h
WITH sums AS (
    SELECT {KIND} AS kind, {SUBJECT} AS subject, bucket, sum(calls) AS calls, sum(s4xx) AS s4xx, sum(s5xx) AS s5xx,
           sum(bytes_in) + sum(bytes_out) AS bytes
    FROM rollup_1h WHERE bucket >= $since AND bucket < $until {sets("bucket")}
), bins AS (
    SELECT {KIND} AS kind, {SUBJECT} AS subject, bucket, bin, sum(calls) AS calls
    FROM latency_1h WHERE bucket >= $since AND bucket < $until {sets("bucket", "bin")}
), counted AS (
    SELECT kind, subject, bucket, bin, sum(calls) OVER (PARTITION BY kind, subject, bucket ORDER BY bin) AS upto,
           sum(calls) OVER (PARTITION BY kind, subject, bucket) AS total
    FROM bins
), slow AS (
    SELECT kind, subject, bucket, ln(greatest(1, latency_bound(min(bin)))) AS p95
    FROM counted WHERE upto >= 0.95 * total GROUP BY ALL
), recorded AS (
    SELECT DISTINCT date_trunc('hour', "at") AS bucket FROM calls WHERE "at" >= $since AND "at" < $until
), denials AS (
    SELECT {KIND} AS kind, {SUBJECT} AS subject, bucket, count(*) AS denied
    FROM (SELECT date_trunc('hour', "at") AS bucket, consumer, route FROM calls
          WHERE "at" >= $since AND "at" < $until AND status IN (401, 403)) {sets("bucket")}
)
SELECT bucket, kind, subject, calls, s4xx, s5xx,
       CASE WHEN recorded.bucket IS NOT NULL THEN coalesce(denied, 0) END, bytes, p95
FROM sums LEFT JOIN slow USING (kind, subject, bucket) LEFT JOIN denials USING (kind, subject, bucket)
LEFT JOIN recorded USING (bucket) WHERE calls > 0
"""
_WATCHED = f"""
CREATE OR REPLACE TEMP TABLE watched AS
SELECT row_number() OVER (ORDER BY kind, subject)::USMALLINT AS id, * FROM (
    SELECT kind, subject, min(bucket) AS first FROM usual_1h WHERE bucket >= $since AND bucket < $until
    GROUP BY kind, subject QUALIFY row_number() OVER (PARTITION BY kind ORDER BY sum(calls) DESC, subject) <= {MOST})
"""


def _facts(condition: str) -> str:
    """Watched subjects in the hours of the table `hours` since they are known; without calls too."""
    return f"""
    SELECT id, hours.*, coalesce(calls, 0) AS calls, coalesce(s4xx, 0) AS s4xx, coalesce(s5xx, 0) AS s5xx,
           coalesce(bytes, 0) AS bytes, p95
    FROM watched JOIN hours ON hours.bucket >= watched.first LEFT JOIN usual_1h USING (kind, subject, bucket)
    WHERE {condition}"""


def _by_metric(columns: str) -> str:
    """Rows of `facts` once for each metric, with y on its scale."""
    parts = (
        f"SELECT {columns}, calls, {number}::UTINYINT AS metric, {scale.sql} AS y FROM facts"
        for number, scale in enumerate(SCALES)
    )
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) WHERE y IS NOT NULL"


def _case(value: str) -> str:
    """An attribute of the scale of a row, by its metric."""
    cases = (f"WHEN {number} THEN {getattr(scale, value)}" for number, scale in enumerate(SCALES))
    return f"CASE metric {' '.join(cases)} END"


_EMPTY = """
CREATE OR REPLACE TEMP TABLE seasons (id USMALLINT, metric UTINYINT, slot UTINYINT, m FLOAT);
CREATE OR REPLACE TEMP TABLE profile (id USMALLINT, metric UTINYINT, spread FLOAT, up FLOAT, down FLOAT, drift FLOAT)
"""
"""Of all hours of the week, metrics and subjects there are over a million medians: hence the small types."""
_BATCH = f"CREATE OR REPLACE TEMP TABLE facts AS {_facts('id > $above AND id <= $above + $many')}"
_SCALED = [
    f"""
CREATE OR REPLACE TEMP TABLE scaled AS
SELECT id, {number}::UTINYINT AS metric, bucket, slot, calls::FLOAT AS calls, y::FLOAT AS y
FROM (SELECT *, {scale.sql} AS y FROM facts) WHERE y IS NOT NULL
"""
    for number, scale in enumerate(SCALES)
]
_SEASONS = "INSERT INTO seasons SELECT id, metric, slot, median(y) FROM scaled GROUP BY ALL"
_PROFILE = f"""
INSERT INTO profile
WITH strays AS (
    SELECT id, metric, bucket, y - m AS stray, {_case("noise")} AS noise
    FROM scaled JOIN (SELECT id, metric, slot, m FROM seasons WHERE id > $above AND metric = $metric)
    USING (id, metric, slot)
), spreads AS (
    SELECT id, metric,
           coalesce(sqrt(greatest(0, ({NORMAL} * mad(stray) FILTER (noise < 0.1)) ** 2
                                     - median(noise) FILTER (noise < 0.1))), 0) AS spread,
           coalesce(median(stray) FILTER (noise < 0.1 AND bucket >= $lately), 0) AS drift
    FROM strays GROUP BY ALL
), days AS (
    SELECT id, metric, date_trunc('day', bucket) AS day,
           max(stray / sqrt(greatest(spread, {_case("floor")}) ** 2 + noise)) AS up,
           -min(stray / sqrt(greatest(spread, {_case("floor")}) ** 2 + noise)) AS down
    FROM strays JOIN spreads USING (id, metric) GROUP BY ALL
), tails AS (
    SELECT id, metric, max(up, {WILD})[-1] AS up, max(down, {WILD})[-1] AS down FROM days GROUP BY ALL
)
SELECT id, metric, spread, greatest(0, up), greatest(0, down),
       greatest(-{_case("drift")}, least({_case("drift")}, drift))
FROM spreads JOIN tails USING (id, metric)
"""
_REGULAR = """
CREATE OR REPLACE TEMP TABLE regular AS
WITH known AS (SELECT slot, count(*) AS weeks FROM hours GROUP BY slot),
totals AS (
    SELECT subject, sum(calls) AS calls FROM usual_1h JOIN hours USING (bucket) WHERE kind = 'consumer' GROUP BY ALL)
SELECT subject, sum(greatest(0, exp(m) - 8) * weeks) / any_value(calls) AS share
FROM seasons JOIN watched USING (id) JOIN known USING (slot) JOIN totals USING (subject)
WHERE kind = 'consumer' AND metric = 0 GROUP BY subject
"""
"""What part of a consumer's calls comes at the same hours every week: what the medians of all hours of the week say."""
_LEVELS = f"""
WITH facts AS ({_facts("true")}),
scaled AS ({_by_metric("id, bucket, weekly, s4xx + s5xx AS errors, bytes")}),
past AS (
    SELECT id, metric, count(*) FILTER (weekly) >= $weeks AS known, count(*) FILTER (NOT weekly) AS days,
           CASE WHEN known THEN median(y) FILTER (weekly) ELSE median(y) FILTER (NOT weekly) END AS m,
           CASE WHEN known THEN mad(y) FILTER (weekly) ELSE mad(y) FILTER (NOT weekly) END AS mad
    FROM scaled WHERE bucket <> $hour GROUP BY ALL HAVING known OR days >= {ENOUGH_DAYS}
)
SELECT kind, subject, metric, calls, errors, bytes, y, m, mad, {_case("noise")}, spread, up, down, drift,
       least(m, low), greatest(m, high)
FROM scaled JOIN past USING (id, metric) JOIN profile USING (id, metric) JOIN watched USING (id)
LEFT JOIN (
    SELECT id, metric, min(m) AS low, max(m) AS high FROM seasons WHERE list_contains($around, slot) GROUP BY ALL)
USING (id, metric)
WHERE bucket = $hour ORDER BY kind, subject, metric
"""


class Row(NamedTuple):
    """What a subject did in an hour, and what is usual then; `level` is on the scale of `metric`."""

    kind: str
    subject: str
    metric: str
    calls: float
    errors: float
    bytes: float
    level: Level


def stamp(second: float) -> datetime:
    """Seconds since the epoch as the store has them: UTC, without saying so."""
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None)


def scale_of(metric: str) -> Scale:
    """The scale of a metric. Raises `StopIteration` if there is none."""
    return next(scale for scale in SCALES if scale.metric == metric)


class Usual:
    """The usual, through a cursor that nobody else uses: some of it lies in temporary tables of that cursor."""

    def __init__(self, cursor: DuckDBPyConnection, calendar: Calendar, weeks: int, min_weeks: int) -> None:
        self._cursor = cursor
        self._calendar = calendar
        self._weeks = weeks
        self._min_weeks = min_weeks
        self._learned = -1
        cursor.execute(_SCHEMA)

    def fill(self, since: int, until: int) -> None:
        """Take in the hours from `since` to `until`."""
        self._cursor.execute(_FILL, {"since": stamp(since), "until": stamp(until)})

    def forget(self, until: int) -> None:
        """Drop what is too old to be looked at."""
        self._cursor.execute("DELETE FROM usual_1h WHERE bucket < ?", [stamp(until - (self._weeks + 1) * 7 * DAY)])

    def learn(self, hour: int) -> None:
        """Work out what holds for all hours of a day, unless that was done on the day of `hour`."""
        day = hour // DAY
        if day == self._learned:
            return
        until = day * DAY
        since = until - self._weeks * 7 * DAY
        self._hours([(each, self._calendar.slot(each), True) for each in range(since, until, HOUR)])
        self._cursor.execute(_WATCHED, {"since": stamp(since), "until": stamp(until)})
        self._cursor.execute(_EMPTY)
        for above in range(0, self._watched(), TOGETHER):
            self._cursor.execute(_BATCH, {"above": above, "many": TOGETHER})
            for metric, scaled in enumerate(_SCALED):
                self._cursor.execute(scaled)
                self._cursor.execute(_SEASONS)
                self._cursor.execute(_PROFILE, {"lately": stamp(until - 7 * DAY), "above": above, "metric": metric})
        self._cursor.execute(_REGULAR)
        self._cursor.execute("DROP TABLE IF EXISTS temp.scaled")
        self._cursor.execute("DROP TABLE IF EXISTS temp.facts")
        self._cursor.execute("CREATE OR REPLACE TEMP TABLE all_hours AS SELECT * FROM hours")
        self._learned = day

    def _watched(self) -> int:
        ((count,),) = self._cursor.execute("SELECT count(*) FROM watched").fetchall()
        return int(count)

    def levels(self, hour: int) -> list[Row]:
        """What watched subjects did in the hour that begins at `hour`, as far as it is known what is usual."""
        weekly = self._calendar.weekly(hour, self._weeks)
        samples = [(each, 0, True) for each in weekly]
        samples += [(each, 0, False) for each in self._calendar.daily(hour)]
        self._hours(samples)
        self._cursor.execute("INSERT INTO hours VALUES (?, 0, NULL)", [stamp(hour)])
        slot = self._calendar.slot(hour)
        around = [(slot + step) % SLOTS for step in (-1, 1)]
        self._cursor.execute(_LEVELS, {"hour": stamp(hour), "weeks": self._min_weeks, "around": around})
        return [
            Row(kind, subject, SCALES[metric].metric, calls, errors, size, Level(*level))
            for kind, subject, metric, calls, errors, size, *level in self._cursor.fetchall()
        ]

    def _hours(self, hours: Sequence[tuple[int, int, bool]]) -> None:
        """Make the table `hours` of those in which anything is known at all: (beginning, slot, weekly)."""
        self._cursor.execute(
            """
            CREATE OR REPLACE TEMP TABLE hours AS
            SELECT bucket, slot, weekly FROM (
                SELECT make_timestamp(unnest($buckets)::BIGINT * 1000000) AS bucket, unnest($slots) AS slot,
                       unnest($weekly) AS weekly)
            WHERE bucket IN (SELECT bucket FROM usual_1h WHERE kind = 'gateway')
            """,
            {
                "buckets": [each for each, _, _ in hours],
                "slots": [slot for _, slot, _ in hours],
                "weekly": [weekly for _, _, weekly in hours],
            },
        )
