"""The most that a subject ever had of something in an hour, remembered for weeks: the past of detectors by the minute.

What calls say of single minutes is too much to be read again; so each detector leaves here, hour by hour, the peaks
that come anywhere near an alert. Nothing else is kept: who is not here never had many.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from duckdb import DuckDBPyConnection

from gatewayd.collect.baselines import DAY, HOUR
from gatewayd.collect.usual import stamp

DAYS = 35
"""How far back: what runs once a month is in it."""
HOLD_OFF = 7 * DAY
"""Seconds that a detector, and a consumer, must have been watched before its past says anything."""
NEAR = 0.25
"""Peaks of this share of what is enough for an alert are kept."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS peaks_1h (detector VARCHAR, subject VARCHAR, bucket TIMESTAMP, peak DOUBLE);
CREATE TABLE IF NOT EXISTS alert_marks (name VARCHAR PRIMARY KEY, "at" TIMESTAMP)
"""
_USUAL = """
SELECT subject, coalesce(list_sort(list(peak), 'DESC')[2], 0), max(peak) FROM (
    SELECT subject, date_trunc('day', bucket) AS day, max(peak) AS peak FROM peaks_1h
    WHERE detector = $detector AND bucket >= $since AND bucket < $until AND list_contains($subjects, subject)
    GROUP BY ALL)
GROUP BY subject
"""


class Past(NamedTuple):
    """The most of a subject's days: the second of them, and the very most."""

    usual: float = 0.0
    """The second: so that one attack does not become what is usual, and what happens every week does."""
    worst: float = 0.0


NONE = Past()
"""Of who never had many."""


class Peaks:
    """Peaks by detector and subject; and marks: until when, and since when, things were looked at."""

    def __init__(self, cursor: DuckDBPyConnection) -> None:
        self._cursor = cursor
        cursor.execute(_SCHEMA)

    def note(self, detector: str, peaks: Iterable[tuple[str, int, float]]) -> None:
        """Remember (subject, second, peak)."""
        most: dict[tuple[str, int], float] = {}
        for subject, at, peak in peaks:
            key = subject, at // HOUR * HOUR
            most[key] = max(peak, most.get(key, 0.0))
        if most:
            columns = [subject for subject, _ in most], [stamp(hour) for _, hour in most], list(most.values())
            query = "INSERT INTO peaks_1h SELECT ?, unnest(?), unnest(?), unnest(?)"
            self._cursor.execute(query, [detector, *columns])

    def past(self, detector: str, subjects: Iterable[str], at: int) -> dict[str, Past]:
        """What each had in the `DAYS` before the day of second `at`. Who is not in it had none."""
        day = at // DAY * DAY
        known = {"detector": detector, "since": stamp(day - DAYS * DAY), "until": stamp(day)}
        found = self._cursor.execute(_USUAL, {**known, "subjects": list(subjects)}).fetchall()
        return {subject: Past(usual, worst) for subject, usual, worst in found}

    def mark(self, name: str) -> int | None:
        """The second that was marked."""
        found = self._cursor.execute('SELECT epoch("at") FROM alert_marks WHERE name = ?', [name]).fetchall()
        return int(found[0][0]) if found else None

    def set_mark(self, name: str, at: int) -> None:
        """Mark a second."""
        self._cursor.execute("INSERT OR REPLACE INTO alert_marks VALUES (?, ?)", [name, stamp(at)])

    def since(self, name: str, at: int) -> int:
        """Since when something is looked at: now, if it was not yet."""
        begun = self.mark(name)
        if begun is None:
            self.set_mark(name, at)
        return at if begun is None else begun

    def forget(self, until: int) -> None:
        """Drop what is too old to be looked at."""
        self._cursor.execute("DELETE FROM peaks_1h WHERE bucket < ?", [stamp(until - (DAYS + 1) * DAY)])
