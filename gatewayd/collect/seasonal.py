"""Rate, errors, latency and bytes of an hour against the same hour of past weeks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

from gatewayd.collect.baselines import HOUR, Calendar, common_cause, score
from gatewayd.collect.finding import CONSUMER, GATEWAY, WARM, Finding, Subject, said, size
from gatewayd.collect.usual import Row, scale_of
from gatewayd.config.alerts import Seasonal

CALLS_FOR_LATENCY = 100
"""An hour with fewer says too little of its slowest calls."""
_LEAST_RATIO = 1.5
"""Rates and bytes per call: what is usual must be exceeded by so much, or undershot to one by so much squared."""


def judge(rows: Iterable[Row], hour: int, config: Seasonal, calendar: Calendar) -> list[Finding]:
    """What is unusual in the hour that begins at second `hour`."""
    rows = list(rows)
    causes = _causes(rows, config)
    findings = []
    for row in rows:
        scale = scale_of(row.metric)
        common = 0.0 if row.kind == GATEWAY else causes.get((row.kind, row.metric), 0.0)
        found = score(row.level, config.score, scale.floor, common)
        if (found >= WARM or (found <= -WARM and scale.down)) and _matters(row, config):
            findings.append(_finding(row, hour, abs(found), calendar))
    return findings


def _causes(rows: Iterable[Row], config: Seasonal) -> dict[tuple[str, str], float]:
    """By how much subjects of a kind deviate together, by kind and metric."""
    distances: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        volume = _usual_calls(row) if row.metric == "rate" else row.calls
        if volume >= config.min_calls and row.kind != GATEWAY:
            distances[row.kind, row.metric].append(row.level.distance)
    return {key: common_cause(each) for key, each in distances.items()}


def _usual_calls(row: Row) -> float:
    return max(0.0, math.exp(row.level.expected) - 8)


def natural(row: Row) -> tuple[float, float]:
    """(Usual, observed) as people know them: calls, a share, bytes per call, seconds."""
    level = row.level
    if row.metric == "rate":
        return _usual_calls(row), row.calls
    if row.metric == "errors":
        return math.sin(max(0.0, level.expected) / 2) ** 2, row.errors / row.calls
    if row.metric == "bytes":
        return max(0.0, math.exp(level.expected) - 64), row.bytes / row.calls
    return math.exp(level.expected) / 1e6, math.exp(level.value) / 1e6


def _matters(row: Row, config: Seasonal) -> bool:
    """Whether there is enough of it, whatever the statistics say."""
    usual, observed = natural(row)
    if row.metric == "rate":
        if observed < usual:
            return usual - observed >= config.min_calls and observed * _LEAST_RATIO**2 <= usual
        return observed - usual >= config.min_calls and observed >= usual * _LEAST_RATIO
    if row.metric == "errors":
        return row.calls * (observed - usual) >= config.min_errors
    if row.metric == "bytes":
        return row.calls * (observed - usual) >= config.min_bytes and observed >= usual * _LEAST_RATIO
    return row.calls >= CALLS_FOR_LATENCY and observed >= usual * config.slower


def _finding(row: Row, hour: int, found: float, calendar: Calendar) -> Finding:
    subject = Subject(row.kind, row.subject)
    usual, observed = natural(row)
    text = f"{_SENTENCES[row.metric](row, subject, usual, observed)} {when(hour, calendar)}"
    return Finding(row.metric, subject, hour + HOUR, HOUR, found, usual, observed, text)


def when(hour: int, calendar: Calendar) -> str:
    """Which hour, as people there call it."""
    begin, end = calendar.local(hour), calendar.local(hour + HOUR)
    return f"({begin:%a %Y-%m-%d %H:%M} to {end:%H:%M} {begin:%Z})"


def _verb(subject: Subject) -> str:
    return "made" if subject.kind == CONSUMER else "had"


_SENTENCES: dict[str, Callable[[Row, Subject, float, float], str]] = {
    "rate": lambda row, subject, usual, observed: (
        f"{subject.title} {_verb(subject)} {said(observed)} calls; usual at this hour are {said(round(usual))}"
    ),
    "errors": lambda row, subject, usual, observed: (
        f"{subject.title}: {observed:.1%} of {said(row.calls)} calls failed or were refused; usual are {usual:.1%}"
    ),
    "bytes": lambda row, subject, usual, observed: (
        f"{subject.title} moved {size(row.bytes)} in {said(row.calls)} calls, {size(observed)} each; "
        f"usual are {size(usual)} each"
    ),
    "latency": lambda row, subject, usual, observed: (
        f"{subject.title}: one call of twenty took longer than {observed * 1e3:,.0f} ms; "
        f"usual at this hour are {usual * 1e3:,.0f} ms"
    ),
}
