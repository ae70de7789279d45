"""Alerts: opened once, followed while they last, closed when it has been calm for a while; kept in the store.

An alert is about one subject and one detector. It opens at a score of 1 and stays open while the score is above
`finding.WARM`, so that what wavers about 1 is one alert. What comes back within the cooldown is the same alert again.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from duckdb import DuckDBPyConnection

from gatewayd.collect.finding import WARM, Contributor, Finding, Severity
from gatewayd.collect.usual import stamp

CALM = {"enumeration": 900, "error_burst": 900, "sharing": 1_800, "quota_burn": 6 * 3_600}
"""Seconds without a warm finding that close an alert …"""
CALM_HOURS = 2 * 3_600
"""… and those of the detectors that look at hours."""
_GROWN = 1.25
"""An alert is written anew when its score grew by so much."""
_COLUMNS = 'id, epoch("at"), detector, subject, severity, text, baseline, observed, contributors, epoch(resolved_at)'

_log = logging.getLogger(__name__)
Key = tuple[str, str]
"""Detector and subject."""


@dataclass(frozen=True)
class Alert:
    """What is told of it. Times are seconds since the epoch."""

    id: str
    at: int
    """Where the first thing found begins."""
    detector: str
    subject: str
    severity: Severity
    text: str
    baseline: float
    observed: float
    contributors: tuple[Contributor, ...]
    resolved_at: int | None = None

    @property
    def key(self) -> Key:
        """What there is one open alert of."""
        return self.detector, self.subject


@dataclass(frozen=True)
class Change:
    """What became of an alert."""

    kind: Literal["opened", "raised", "resolved"]
    alert: Alert


@dataclass
class _Open:
    alert: Alert
    warm: int
    """When it was last worth a word."""
    score: float


Explain = Callable[[Finding], tuple[Contributor, ...]]


class Book:
    """The alerts of a store. `explain` says what a finding is made of; it is asked only for what is written down."""

    def __init__(self, cursor: DuckDBPyConnection, cooldown: float, most: int, explain: Explain) -> None:
        self._cursor = cursor
        self._cooldown = cooldown
        self._most = most
        self._explain = explain
        self.suppressed = 0
        """Alerts that did not open because too many were open."""
        self.opened: Counter[tuple[str, str]] = Counter()
        """Alerts opened by this process, by detector and severity."""
        self._open: dict[Key, _Open] = {}
        for alert in alerts(cursor, "resolved_at IS NULL"):
            self._open[alert.key] = _Open(alert, alert.at, 1.0)
        self._resumed = bool(self._open)

    @property
    def open(self) -> list[Alert]:
        """Those that are open."""
        return [each.alert for each in self._open.values()]

    def is_open(self, finding: Finding) -> bool:
        """Whether there is an alert of it already."""
        return _key(finding) in self._open

    def take(self, findings: Iterable[Finding], until: int) -> list[Change]:
        """Write down what was found before second `until`, oldest first, and what became calm."""
        if self._resumed:  # what was found before a restart is not known: calm counts from here on
            self._resumed = False
            for each in self._open.values():
                each.warm = max(each.warm, until - 1)
        changes: list[Change] = []
        for finding in sorted(findings, key=lambda each: each.at):
            known = self._open.get(_key(finding))
            if known is not None and finding.at - known.warm > _calm(finding.detector):
                changes.append(self._resolve(known))
                known = None
            if known is None:
                changes += self._begin(finding)
            else:
                changes += self._follow(known, finding)
        for known in list(self._open.values()):
            if until - known.warm >= _calm(known.alert.detector):
                changes.append(self._resolve(known))
        return changes

    def forget(self, before: int) -> None:
        """Drop alerts that were over before a second."""
        self._cursor.execute("DELETE FROM alerts WHERE resolved_at < ?", [stamp(before)])

    def _begin(self, finding: Finding) -> list[Change]:
        if finding.score < 1:
            return []
        if len(self._open) >= self._most:
            if not self.suppressed:
                _log.warning("%d alerts are open: further ones are only counted (alerts.max_open)", self._most)
            self.suppressed += 1
            return []
        again = self._again(finding)
        if again is not None:
            return self._follow(again, finding)
        alert = Alert(
            uuid.uuid4().hex,
            finding.at - finding.seconds,
            finding.detector,
            str(finding.subject),
            finding.severity,
            finding.text,
            finding.baseline,
            finding.observed,
            self._explain(finding),
        )
        values = [alert.id, stamp(alert.at), *_values(alert)]
        self._cursor.execute("INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", values)
        self._open[alert.key] = _Open(alert, finding.at, finding.score)
        self.opened[alert.detector, alert.severity] += 1
        return [Change("opened", alert)]

    def _again(self, finding: Finding) -> _Open | None:
        """The alert of it that was over not long before, open again."""
        condition = "detector = ? AND subject = ? AND resolved_at >= ? ORDER BY resolved_at DESC LIMIT 1"
        since = stamp(finding.at - finding.seconds - self._cooldown)
        found = alerts(self._cursor, condition, [*_key(finding), since])
        if not found:
            return None
        alert = replace(found[0], resolved_at=None)
        self._cursor.execute("UPDATE alerts SET resolved_at = NULL WHERE id = ?", [alert.id])
        known = self._open[alert.key] = _Open(alert, finding.at, 2.0 if alert.severity == "critical" else 1.0)
        return known

    def _follow(self, known: _Open, finding: Finding) -> list[Change]:
        if finding.score >= WARM:
            known.warm = max(known.warm, finding.at)
        was = known.alert.severity
        severity: Severity = "critical" if "critical" in (was, finding.severity) else "warning"
        if finding.score < known.score * _GROWN and severity == was:
            return []
        known.score = max(known.score, finding.score)
        known.alert = replace(
            known.alert,
            severity=severity,
            text=finding.text,
            baseline=finding.baseline,
            observed=finding.observed,
            contributors=self._explain(finding),
        )
        self._cursor.execute(
            "UPDATE alerts SET detector = ?, subject = ?, severity = ?, text = ?, baseline = ?, observed = ?, "
            "contributors = ? WHERE id = ?",
            [*_values(known.alert), known.alert.id],
        )
        return [Change("raised", known.alert)] if severity != was else []

    def _resolve(self, known: _Open) -> Change:
        del self._open[known.alert.key]
        alert = replace(known.alert, resolved_at=known.warm)
        self._cursor.execute("UPDATE alerts SET resolved_at = ? WHERE id = ?", [stamp(known.warm), alert.id])
        return Change("resolved", alert)


def _key(finding: Finding) -> Key:
    return finding.detector, str(finding.subject)


def _calm(detector: str) -> int:
    return CALM.get(detector, CALM_HOURS)


def _values(alert: Alert) -> list[Any]:
    contributors = json.dumps([each._asdict() for each in alert.contributors])
    return [alert.detector, alert.subject, alert.severity, alert.text, alert.baseline, alert.observed, contributors]


def alerts(cursor: DuckDBPyConnection, condition: str, values: Iterable[Any] = ()) -> list[Alert]:
    """Alerts of the store that fulfil a condition (SQL)."""
    rows = cursor.execute(f"SELECT {_COLUMNS} FROM alerts WHERE {condition}", list(values)).fetchall()  # noqa: S608
    return [_alert(row) for row in rows]


def _alert(row: Sequence[Any]) -> Alert:
    identifier, at, detector, subject, severity, text, baseline, observed, listed, over = row
    made_of = tuple(Contributor(**each) for each in json.loads(listed))
    over = None if over is None else int(over)
    return Alert(identifier, int(at), detector, subject, severity, text, baseline, observed, made_of, over)
