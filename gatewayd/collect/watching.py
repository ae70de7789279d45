"""One look after another: what came in since the last one is handed to the detectors, and what they find written down.

Stretches of time are taken in order, each once, and end at full hours at the latest. All that a stretch leaves behind
(what is usual, peaks, alerts, what is to be delivered, and the mark up to which it was looked at) is one transaction:
after a crash it is looked at again as if for the first time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from zoneinfo import ZoneInfo

from duckdb import DuckDBPyConnection

from gatewayd.collect.alert_book import Book, Change
from gatewayd.collect.baselines import DAY, HOUR, Calendar
from gatewayd.collect.bursts import bursts
from gatewayd.collect.contributors import contributors, narrowed
from gatewayd.collect.detectors import enumeration, off_hours, sharing
from gatewayd.collect.finding import CONSUMER, CREDENTIAL, ROUTE, Finding, Subject
from gatewayd.collect.ground import Ground
from gatewayd.collect.peaks import Peaks
from gatewayd.collect.quota_burn import Quota, quota_burn, quotas
from gatewayd.collect.rollups import until as complete_until
from gatewayd.collect.seasonal import judge
from gatewayd.collect.usual import Usual, stamp
from gatewayd.config.model import Document

MINUTE = 60
LATE = DAY
"""Seconds after which things are no news any more: they are learned from only."""
BACK = 7 * DAY
"""Seconds of single calls that a first look learns from."""
STRETCHES = 24
"""Stretches of a look: what is behind by days must not keep one thread busy for minutes."""
MOST = 1_000_000
"""Calls of a stretch, if it is longer than a minute."""
_CALLS = """
SELECT epoch(bucket)::BIGINT AS minute, sum(calls) FROM rollup_1m WHERE bucket >= ? AND bucket < ?
GROUP BY ALL ORDER BY minute
"""
_MARK, _HOUR_MARK = "looked at", "filled"

_log = logging.getLogger(__name__)
Tell = Callable[[DuckDBPyConnection, list[Change]], None]


class Watching:
    """The detectors over one store. For one thread; `cursor` is its alone.

    `tell` is called with what became of alerts, within the transaction that writes it down. Once a look has failed the
    object is of no more use: what it believes may not have been written.
    """

    def __init__(
        self, cursor: DuckDBPyConnection, document: Document, tell: Tell = lambda cursor, changes: None
    ) -> None:
        self._cursor = cursor
        self._tell = tell
        config = document.alerts
        calendar = Calendar(ZoneInfo(config.time_zone), config.holidays)
        usual = Usual(cursor, calendar, config.weeks, config.min_weeks)
        self.ground = Ground(cursor, document, calendar, usual, Peaks(cursor), cursor.cursor())
        self.book = Book(cursor, config.cooldown, config.max_open, lambda finding: contributors(self.ground, finding))
        self._quotas: list[Quota] = quotas(document) if config.quota_burn.enabled else []
        self._muted = {CONSUMER: set(config.mute_consumers), ROUTE: set(config.mute_routes)}
        self._quiet = config.weeks * 7 * DAY

    def look(self, now: float) -> list[Change]:
        """Look at all that is over at second `now`, or at the first part of it, and say what became of alerts."""
        until, hours_until = self._known_until(now)
        if until <= 0:  # nothing was ever added up
            return []
        mark = self.ground.peaks.mark(_MARK)
        if mark is None or until - mark > BACK:
            mark = self._begin(until)
        changes: list[Change] = []
        for _ in range(STRETCHES):
            end = self._end(mark, min(until, mark // HOUR * HOUR + HOUR))
            if end % HOUR == 0 and end > hours_until:
                end -= MINUTE  # the last minute of an hour waits for the hour
            if end <= mark:
                break
            changes += self._within(lambda since=mark, until=end: self._stretch(since, until, now))  # type: ignore[misc]
            mark = end
        return changes

    def close(self) -> None:
        """Let go of the store."""
        self.ground.aside.close()
        self._cursor.close()

    def interrupt(self) -> None:
        """From another thread: end a look that is under way, with an error."""
        self._cursor.interrupt()
        self.ground.aside.interrupt()

    def behind(self, now: float) -> float:
        """Seconds since what was looked at last."""
        mark = self.ground.peaks.mark(_MARK)
        return 0.0 if mark is None else max(0.0, now - mark)

    def _end(self, mark: int, latest: int) -> int:
        """The end of the stretch that begins at `mark`: at a number of calls that is looked at in little memory."""
        rows = self._cursor.execute(_CALLS, [stamp(mark), stamp(latest)]).fetchall()
        calls = 0
        for minute, more in rows:
            calls += int(more)
            if calls > MOST and minute > mark:
                return int(minute)
        return latest

    def _known_until(self, now: float) -> tuple[int, int]:
        """Until which second minutes and hours are complete: what the collector is behind with is no silence."""
        minutes, hours = (min(int(now), complete_until(self._cursor)[tier]) for tier in ("1m", "1h"))
        return minutes // MINUTE * MINUTE, hours

    def _begin(self, until: int) -> int:
        """Learn from what is there already; returns from which second on single minutes are looked at."""
        mark = max((until - BACK) // HOUR * HOUR, self._first('SELECT epoch(min("at")) FROM calls', until))
        since = self._first("SELECT epoch(min(bucket)) FROM rollup_1h", mark)
        since = max(since, mark - self._quiet, self.ground.peaks.mark(_HOUR_MARK) or 0)
        for begin in range(since, mark, DAY):
            self._within(lambda begin=begin: self._fill(begin, min(begin + DAY, mark)))  # type: ignore[misc]
        self._within(lambda: self._set_mark(mark))
        return mark

    def _first(self, query: str, default: int) -> int:
        """The full hour of what a query finds."""
        ((found,),) = self._cursor.execute(query).fetchall()
        return int(default if found is None else found) // HOUR * HOUR

    def _fill(self, since: int, until: int) -> list[Change]:
        self.ground.usual.fill(since, until)
        self.ground.peaks.set_mark(_HOUR_MARK, until)
        return []

    def _set_mark(self, mark: int) -> list[Change]:
        self.ground.peaks.set_mark(_MARK, mark)
        return []

    def _within(self, work: Callable[[], list[Change]]) -> list[Change]:
        """Run `work` in a transaction of its own."""
        self._cursor.begin()
        try:
            changes = work()
            self._tell(self._cursor, changes)
            self._cursor.commit()
        except BaseException:
            self._cursor.rollback()
            raise
        return changes

    def _stretch(self, since: int, until: int, now: float) -> list[Change]:
        config = self.ground.document.alerts
        findings: list[Finding] = []
        if config.bursts.enabled:
            findings += bursts(self.ground, since, until)
        if config.enumeration.enabled:
            findings += enumeration(self.ground, since, until)
        if config.sharing.enabled:
            findings += sharing(self.ground, since, until)
        if until % HOUR == 0:
            findings += self._hour(until - HOUR)
        self.ground.peaks.set_mark(_MARK, until)
        if until <= now - LATE:
            return self.book.take((), until)
        return self.book.take(self._new(findings), until)

    def _hour(self, hour: int) -> list[Finding]:
        """What is found in an hour that is over."""
        config = self.ground.document.alerts
        self._fill(hour, hour + HOUR)
        if hour % DAY == 0:
            self._forget(hour)
        self.ground.usual.learn(hour)
        findings: list[Finding] = []
        if config.seasonal.enabled:
            findings += judge(self.ground.usual.levels(hour), hour, config.seasonal, self.ground.calendar)
        if config.off_hours.enabled:
            findings += off_hours(self.ground, hour)
        return findings + quota_burn(self.ground, hour, self._quotas)

    def _forget(self, hour: int) -> None:
        self.ground.usual.forget(hour)
        self.ground.peaks.forget(hour)
        self.book.forget(hour - int(self.ground.document.alerts.keep))

    def _new(self, findings: Iterable[Finding]) -> list[Finding]:
        """Without what is muted; what others explain opens no alert, unless it has one already."""
        heard = [each for each in findings if not self._is_muted(each.subject)]
        followed = [each for each in heard if self.book.is_open(each)]
        return followed + [each for each in narrowed(self.ground, heard) if not self.book.is_open(each)]

    def _is_muted(self, subject: Subject) -> bool:
        if subject.kind == CREDENTIAL:
            return subject.name.partition("/")[0] in self._muted[CONSUMER]
        return subject.name in self._muted.get(subject.kind, ())
