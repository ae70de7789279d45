"""Erasing persons from the store whose key was destroyed (`audit.subjects`).

Each leaves a mark in `<state>/audit/erased`, named by the subject. What the store says of the person when a new mark is
seen becomes NULL, whenever the calls say that they were: clocks go wrong, and a person is not to be kept for that. Of
somebody who came again, under a new key, that takes the calls that were collected between the mark and the look at it.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

import duckdb

from gatewayd.audit.keys import FOLDER
from gatewayd.collect.schema import PERSONAL

_UPDATE: Final = f"""
    UPDATE calls SET {", ".join(f'"{name}" = NULL' for name in PERSONAL)}
    WHERE subject = ?
"""  # noqa: S608
SETTLED: Final = 10**9
"""Nanoseconds from one change of a folder on after which the next bears another time: file systems count in ticks."""
_log = logging.getLogger(__name__)


class Erasing:
    """Goes by the marks of a state directory."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER / "erased"
        self._seen = -1

    def due(self) -> bool:
        """Whether there may be new marks: the folder changed since the last look, or so shortly before that look that
        a mark behind it would bear the same time. One `stat`."""
        return self._changed() != self._seen

    def erase(self, cursor: duckdb.DuckDBPyConnection) -> int:
        """Go by the marks that are new; how many. Raises `duckdb.Error`, `OSError`."""
        changed = self._changed()  # before the marks are listed: what comes meanwhile changes it again
        settled = abs(time.time_ns() - changed) > SETTLED
        marks = {path.name: path.stat().st_mtime_ns for path in self._folder.glob("*")} if changed else {}
        known = dict(cursor.execute("SELECT subject, marked FROM erased").fetchall())
        new = {subject: at for subject, at in marks.items() if known.get(subject) != at}
        for subject, at in new.items():
            cursor.begin()
            cursor.execute(_UPDATE, [subject])
            cursor.execute("INSERT OR REPLACE INTO erased VALUES (?, ?)", [subject, at])
            cursor.commit()
        if new:
            _log.info("%d persons were erased from the call store", len(new))
        self._seen = changed if settled else -1
        return len(new)

    def _changed(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns
        except FileNotFoundError:
            return 0
