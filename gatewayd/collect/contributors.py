"""What an excess is made of, the routes, consumers, codes and addresses behind it; and which finding says it best.

An outage of one route is seen at the route, at each of its consumers and in all traffic, and is one thing to be told
of. So of findings at the same time the narrowest is kept that explains the others.
"""

from __future__ import annotations

# ruff: noqa: S608 - all SQL is made of constants of this project, values are parameters
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import duckdb

from gatewayd.collect.baselines import DAY, HOUR
from gatewayd.collect.finding import (
    ADDRESS,
    CONSUMER,
    CREDENTIAL,
    GATEWAY,
    NETWORK,
    ROUTE,
    Contributor,
    Finding,
    Subject,
)
from gatewayd.collect.ground import Ground
from gatewayd.collect.usual import stamp

TOP = 3
"""Named of each kind …"""
LEAST = 0.1
"""… if they are this share of the excess."""
_ONE, _MOST = 0.8, 0.7
"""Shares of an excess: what one alone, and what several together, must make up to explain it."""
WEEKS = 4
"""Hours of past weeks an excess is measured against."""


class _Measure(NamedTuple):
    """What is counted: of rollups ("": they do not say), and of calls."""

    rollup: str
    calls: str


_CALLS = _Measure("calls", "1")
_MEASURES = {
    "rate": _CALLS,
    "off_hours": _CALLS,
    "quota_burn": _CALLS,
    "errors": _Measure("s4xx + s5xx", "CASE WHEN status >= 400 THEN 1 ELSE 0 END"),
    "bytes": _Measure("bytes_in + bytes_out", "bytes_in + bytes_out"),
    "latency": _Measure("total_us", "total_us"),
    "error_burst 5xx": _Measure("s5xx", "CASE WHEN status >= 500 THEN 1 ELSE 0 END"),
    "error_burst 4xx": _Measure("s4xx", "CASE WHEN status BETWEEN 400 AND 499 THEN 1 ELSE 0 END"),
    "error_burst denied": _Measure("", "CASE WHEN status IN (401, 403) THEN 1 ELSE 0 END"),
    "enumeration": _Measure("", "1"),
    "sharing": _Measure("", "1"),
}
_COLUMNS = {
    ROUTE: "route",
    CONSUMER: "consumer",
    CREDENTIAL: "consumer || '/' || credential",
    "code": "CASE WHEN code = '' THEN status::VARCHAR ELSE status::VARCHAR || ' ' || code END",
    ADDRESS: "client",
    "network": NETWORK,
    "agent": "agent",
}
_ASKED = {
    CONSUMER: (ROUTE, "code", ADDRESS),
    ROUTE: (CONSUMER, "code", ADDRESS),
    GATEWAY: (ROUTE, CONSUMER, "code"),
    CREDENTIAL: ("network", "agent", ROUTE),
    ADDRESS: (CONSUMER, ROUTE, "code"),
}
_VEILED = {ADDRESS, "network", "agent"}


def contributors(ground: Ground, finding: Finding) -> tuple[Contributor, ...]:
    """The most important of each kind, largest share first."""
    measure = _measure(finding)
    condition, values = _of_subject(ground, finding.subject)
    found: list[Contributor] = []
    for kind in _ASKED[finding.subject.kind]:
        use_rollup = kind in (ROUTE, CONSUMER) and measure.rollup and finding.subject.kind != ADDRESS
        source = _Source("rollup_1h" if finding.seconds >= HOUR else "rollup_1m", "bucket", measure.rollup)
        if not use_rollup:
            source = _Source("calls", '"at"', measure.calls)
        past = _past(ground, finding, WEEKS if use_rollup else 1)
        rows = _excess(ground, source, _COLUMNS[kind], condition, values, finding, past)
        found += _named(ground, kind, rows)
    return tuple(found)


class _Source(NamedTuple):
    """A table, its column of time, and what is added up of it."""

    table: str
    time: str
    measure: str


def _measure(finding: Finding) -> _Measure:
    about = f"{finding.detector} {finding.subject.about}"
    return _MEASURES[about] if about in _MEASURES else _MEASURES[finding.detector]


def _of_subject(ground: Ground, subject: Subject) -> tuple[str, dict[str, Any]]:
    """A condition on rows, and its values."""
    if subject.kind in (CONSUMER, ROUTE):
        condition, values = f"{subject.kind} = $name", {"name": subject.name}
    elif subject.kind == CREDENTIAL:
        consumer, _, credential = subject.name.partition("/")
        condition, values = (
            "consumer = $name AND credential = $credential",
            {"name": consumer, "credential": credential},
        )
    elif subject.kind == ADDRESS:
        condition, values = "client = $name", {"name": ground.veil.lift(subject.name)}
    else:
        return "true", {}
    if subject.about.startswith("/"):
        return f"{condition} AND operation = $operation", {**values, "operation": subject.about}
    return condition, values


def _past(ground: Ground, finding: Finding, weeks: int) -> list[tuple[int, int]]:
    """What the finding's time is measured against: the same hour of past weeks; of minutes, the hour before."""
    begin = finding.at - finding.seconds
    if finding.seconds < HOUR:
        return [(begin - HOUR, begin)]
    if finding.seconds == HOUR:
        return [(each, each + HOUR) for each in ground.calendar.weekly(begin, weeks)]
    return [(begin - 7 * DAY, finding.at - 7 * DAY)]


def _excess(
    ground: Ground,
    source: _Source,
    column: str,
    condition: str,
    values: Mapping[str, Any],
    finding: Finding,
    past: Sequence[tuple[int, int]],
) -> list[tuple[Any, ...]]:
    """(Name, observed, baseline) by `column`, unordered."""
    begin = finding.at - finding.seconds
    stretches = [(begin, finding.at), *past]
    times = " OR ".join(f"{source.time} >= $s{n} AND {source.time} < $u{n}" for n in range(len(stretches)))
    length = sum(until - since for since, until in past)
    query = (
        f"SELECT {column} AS name, sum({source.measure}) FILTER ({source.time} >= $s0 AND {source.time} < $u0), "
        f"sum({source.measure}) FILTER (NOT ({source.time} >= $s0 AND {source.time} < $u0)) * $part "
        f"FROM {source.table} WHERE ({times}) AND {condition} GROUP BY 1"
    )
    bounds = {f"s{n}": stamp(since) for n, (since, _) in enumerate(stretches)}
    bounds |= {f"u{n}": stamp(until) for n, (_, until) in enumerate(stretches)}
    parameters = {**bounds, **values, "part": finding.seconds / length if length else 0.0}
    try:
        rows = ground.aside.execute(query, parameters).fetchall()
    except duckdb.OutOfMemoryException:  # too many addresses, say: an alert that does not name them is better than none
        return []
    return [(name, float(observed or 0), float(usual or 0)) for name, observed, usual in rows]


def _named(ground: Ground, kind: str, rows: Sequence[tuple[Any, ...]]) -> Iterable[Contributor]:
    total = sum(observed - usual for _, observed, usual in rows)
    if not total:
        return
    ordered = sorted(rows, key=lambda row: (-(row[1] - row[2]) / total, str(row[0])))
    for name, observed, usual in ordered[:TOP]:
        share = min(1.0, (observed - usual) / total)
        if share >= LEAST and name:
            shown = ground.veil(name) if kind in _VEILED else name
            yield Contributor(kind, shown, observed, round(usual, 2), round(share, 2))


Pairs = Mapping[tuple[str, str], float]
"""The excess by (consumer, route)."""


def narrowed(ground: Ground, findings: Iterable[Finding]) -> list[Finding]:
    """Findings, with those that others explain made too small to open an alert."""
    together: dict[tuple[str, str, int], list[Finding]] = defaultdict(list)
    for finding in findings:
        together[finding.detector, finding.subject.about, finding.at].append(finding)
    result: list[Finding] = []
    for group in together.values():
        sure = [each for each in group if each.score >= 1 and each.subject.kind in (CONSUMER, ROUTE, GATEWAY)]
        explained = explained_by(sure, _pairs(ground, sure[0])) if len(sure) > 1 else set()
        result += [each._replace(score=min(each.score, 0.99)) if each.subject in explained else each for each in group]
    return result


def _pairs(ground: Ground, finding: Finding) -> Pairs:
    measure = _measure(finding)
    source = _Source("rollup_1h" if finding.seconds >= HOUR else "rollup_1m", "bucket", measure.rollup)
    if not measure.rollup:
        source = _Source("calls", '"at"', measure.calls)
    past = _past(ground, finding, WEEKS)
    rows = _excess(ground, source, "{'consumer': consumer, 'route': route}", "true", {}, finding, past)
    sign = -1 if finding.observed < finding.baseline else 1
    return {(pair["consumer"], pair["route"]): sign * (observed - usual) for pair, observed, usual in rows}


def explained_by(findings: Collection[Finding], pairs: Pairs) -> set[Subject]:
    """Subjects that others say better: a route that is one consumer's, a consumer that is some routes', all traffic."""
    of_kind = {
        kind: {each.subject.name for each in findings if each.subject.kind == kind} for kind in (CONSUMER, ROUTE)
    }
    excess = {pair: each for pair, each in pairs.items() if each > 0}
    explained: set[Subject] = set()
    for finding in findings:
        if finding.subject.kind == ROUTE:
            of_route = {consumer: each for (consumer, route), each in excess.items() if route == finding.subject.name}
            most = max(of_route, key=lambda name: of_route[name], default="")
            if most in of_kind[CONSUMER] - {""} and of_route[most] >= _ONE * sum(of_route.values()):
                explained.add(finding.subject)
                of_kind[ROUTE].discard(finding.subject.name)
    for finding in findings:
        if finding.subject.kind == CONSUMER:
            of_consumer = {route: each for (name, route), each in excess.items() if name == finding.subject.name}
            if _part(of_consumer, of_kind[ROUTE]) >= _MOST:
                explained.add(finding.subject)
                of_kind[CONSUMER].discard(finding.subject.name)
    for finding in findings:
        if finding.subject.kind == GATEWAY:
            known = sum(
                each for (name, route), each in excess.items() if name in of_kind[CONSUMER] or route in of_kind[ROUTE]
            )
            if known >= _MOST * sum(excess.values()) > 0:
                explained.add(finding.subject)
    return explained


def _part(excess: Mapping[str, float], names: Collection[str]) -> float:
    """The share of the excess that these make up."""
    total = sum(excess.values())
    return sum(each for name, each in excess.items() if name in names) / total if total else 0.0
