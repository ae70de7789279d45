"""Error bursts: many errors within five minutes, looked at every minute, against the worst hours of the past week."""

from __future__ import annotations

# ruff: noqa: S608 - all SQL is made of constants of this project, values are parameters
import math
from collections.abc import Iterable
from typing import NamedTuple

from gatewayd.collect.baselines import DAY
from gatewayd.collect.finding import WARM, Finding, Subject, said
from gatewayd.collect.ground import Ground
from gatewayd.collect.usual import KIND, SUBJECT, sets, stamp
from gatewayd.config.alerts import Bursts

WINDOW = 300
KNOWN_HOURS = 24
"""Hours with traffic in the past week, before anything is said of a subject."""
_CERTAIN = 6.0
"""Standard deviations of a Poisson count beyond the usual: few calls prove little."""
_CLASSES = {"5xx": "s5xx", "4xx": "s4xx", "denied": "denied"}
"""Classes of errors, and their columns. `denied`: 401 and 403; these are 4xx as well."""
_WINDOWS = f"""
WITH minutes AS (
    SELECT {KIND} AS kind, {SUBJECT} AS subject, bucket, sum(calls) AS calls, sum(s4xx) AS s4xx, sum(s5xx) AS s5xx
    FROM rollup_1m WHERE bucket >= $before AND bucket < $until {sets("bucket")}
), denials AS (
    SELECT {KIND} AS kind, {SUBJECT} AS subject, bucket, count(*) AS denied
    FROM (SELECT time_bucket(INTERVAL 1 MINUTE, "at") AS bucket, consumer, route FROM calls
          WHERE "at" >= $before AND "at" < $until AND status IN (401, 403)) {sets("bucket")}
), windows AS (
    SELECT kind, subject, epoch(bucket)::BIGINT + 60 AS ended, sum(calls) OVER five AS calls,
           sum(s5xx) OVER five AS s5xx, sum(s4xx) OVER five AS s4xx, sum(coalesce(denied, 0)) OVER five AS denied
    FROM minutes LEFT JOIN denials USING (kind, subject, bucket)
    WINDOW five AS (PARTITION BY kind, subject ORDER BY bucket
                    RANGE BETWEEN INTERVAL 4 MINUTES PRECEDING AND CURRENT ROW)
), past AS (
    SELECT kind, subject, count(*) AS hours, {
    ", ".join(
        f"median({column} / calls) AS usual_{column}, quantile_cont({column} / calls, 0.98) AS worst_{column}"
        for column in _CLASSES.values()
    )
}
    FROM usual_1h WHERE bucket >= $week AND bucket < $hour AND calls >= 20 GROUP BY ALL
)
SELECT ended, kind, subject, class, calls, errors, usual, worst FROM ({
    " UNION ALL ".join(
        f"SELECT *, '{name}' AS class, {column} AS errors, usual_{column} AS usual, worst_{column} AS worst "
        "FROM windows JOIN past USING (kind, subject)"
        for name, column in _CLASSES.items()
    )
})
WHERE hours >= {
    KNOWN_HOURS
} AND ended > $since AND errors >= $least AND worst IS NOT NULL ORDER BY ended, class, kind, subject
"""


class Window(NamedTuple):
    """Five minutes of a subject."""

    at: int
    kind: str
    subject: str
    name: str
    """Of the class of errors."""
    calls: float
    errors: float
    usual: float
    worst: float
    """Shares of the past week's hours: the median, and what two of a hundred exceed."""


def bursts(ground: Ground, since: int, until: int) -> list[Finding]:
    """Windows that end in the given time and have far too many errors."""
    config = ground.document.alerts.bursts
    hour = since // 3600 * 3600
    query = {
        "before": stamp(since - WINDOW + 60),
        "since": since,
        "until": stamp(until),
        "hour": stamp(hour),
        "week": stamp(hour - 7 * DAY),
        "least": config.errors * WARM,
    }
    rows = ground.cursor.execute(_WINDOWS, query).fetchall()
    found = [(window, score(window, config)) for window in (Window(*row) for row in rows)]
    findings = [_finding(ground, window, score) for window, score in found if score >= WARM]
    return _once(findings)


def score(window: Window, config: Bursts) -> float:
    """1: just enough errors, a share just large enough, and no chance."""
    floor = config.failed if window.name == "5xx" else config.refused
    enough = max(_odds(floor), config.times * _odds(window.worst))
    share = window.errors / max(window.calls, window.errors)
    likely = max(window.usual, 0.005) * window.calls
    certain = (window.errors - likely) / math.sqrt(likely) / _CERTAIN
    return min(window.errors / config.errors, math.sqrt(_odds(share) / enough), certain)


def _odds(share: float) -> float:
    return share / max(1e-3, 1 - share)


def _finding(ground: Ground, window: Window, score: float) -> Finding:
    subject = Subject(window.kind, window.subject, window.name)
    share = window.errors / max(window.calls, window.errors)
    what = {"5xx": "failed (5xx)", "4xx": "were refused (4xx)", "denied": "had their credential refused (401, 403)"}
    text = (
        f"{subject.title}: {said(window.errors)} of {said(window.calls)} calls ({share:.0%}) {what[window.name]} in "
        f"the five minutes before {ground.calendar.local(window.at):%Y-%m-%d %H:%M %Z}; usual are {window.usual:.1%}"
    )
    return Finding("error_burst", subject, window.at, WINDOW, score, window.usual, share, text)


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Of the classes 4xx and denied of one window, the second alone where both are found: it says more."""
    kept = list(findings)
    denied = {(each.at, each.subject[:2]) for each in kept if each.subject.about == "denied"}
    return [each for each in kept if each.subject.about != "4xx" or (each.at, each.subject[:2]) not in denied]
