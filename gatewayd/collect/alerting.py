"""Alerts as a part of the control process: looks on a schedule, in a thread; tells the log, webhooks and `/metrics`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import duckdb
import msgspec
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gatewayd.collect import webhooks
from gatewayd.collect.alert_book import Alert, Change, alerts
from gatewayd.collect.parameters import BadParameters, one_of, read_all, text, whole
from gatewayd.collect.questions import Cursors, Questions, Unanswered
from gatewayd.collect.watching import Watching
from gatewayd.collect.webhooks import Sender
from gatewayd.config.model import Document
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.tasks import spawn
from gatewayd.errors import GatewaydError

PATH = "/v1/alerts"
_SENDING = 5.0
"""Seconds between two looks at what is to be delivered."""
_STOPPING = 0.2
_CONDITIONS = {"open": "resolved_at IS NULL", "resolved": "resolved_at IS NOT NULL", "all": "true"}
_PARAMETERS = (
    one_of("state", "Those that are open, those that are over, or all.", _CONDITIONS, "open"),
    text("detector", "Of one detector, such as `rate`.", longest=64),
    one_of("severity", "Of one severity.", ("warning", "critical")),
    whole("limit", "How many at most, the latest first.", 1, 1_000, 100),
)

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Alerting:
    """The part (`collect.part.Part`). `store` returns the call store, None as long as there is none."""

    def __init__(self, store: Callable[[], Cursors | None], clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._questions = Questions(store)
        self._document = Document()
        self._watching: Watching | None = None
        self._sender = Sender(self._open, self._clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        self._open_now: Counter[tuple[str, str]] = Counter()
        self._opened: Counter[tuple[str, str]] = Counter()
        self._suppressed = 0
        self._failures = 0
        self._complaint = ""
        self._seconds = self._behind = 0.0

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get(PATH, self.answer)]

    def operations(self) -> dict[str, Any]:
        described = {
            "summary": "Alerts: traffic that was not as it usually is",
            "operationId": "alerts",
            "parameters": [parameter.described() for parameter in _PARAMETERS],
            "responses": {
                "200": {
                    "description": "The alerts, the latest first.",
                    "content": {"application/json": {"schema": _SCHEMA}},
                },
                "400": {"description": "A parameter is wrong."},
                "503": {"description": "There is no call store, or it does not answer."},
            },
        }
        return {PATH: {"get": described}}

    def families(self) -> Iterable[Metric]:
        if not self._document.alerts.enabled:
            return
        by = ("detector", "severity")
        opened = CounterMetricFamily("gatewayd_alerts", "Alerts opened.", labels=by)
        now = GaugeMetricFamily("gatewayd_alerts_open", "Alerts that are open.", labels=by)
        for key in sorted(self._opened.keys() | self._open_now.keys()):
            opened.add_metric(key, self._opened[key])
            now.add_metric(key, self._open_now[key])
        yield opened
        yield now
        yield _counter("gatewayd_alerts_suppressed", "Alerts not opened: too many were open.", self._suppressed)
        yield _counter("gatewayd_alerts_look_failures", "Looks that failed.", self._failures)
        yield _gauge("gatewayd_alerts_look_seconds", "How long the last look took.", self._seconds)
        yield _gauge("gatewayd_alerts_behind_seconds", "Age of the last minute that was looked at.", self._behind)
        yield from self._deliveries()

    def _deliveries(self) -> Iterable[Metric]:
        attempts = CounterMetricFamily("gatewayd_webhook_attempts", "POSTs.", labels=("webhook", "result"))
        given_up = CounterMetricFamily("gatewayd_webhook_given_up", "Messages never delivered.", labels=("webhook",))
        for name in sorted(self._sender.webhooks):
            attempts.add_metric((name, "sent"), self._sender.sent[name])
            attempts.add_metric((name, "failed"), self._sender.failed[name])
            given_up.add_metric((name,), self._sender.given_up[name])
        yield attempts
        yield given_up

    async def apply(self, document: Document) -> None:
        await self._stop()
        self._document = document
        self._sender.webhooks = dict(document.alerts.webhooks)
        if document.alerts.enabled:
            self._over.clear()
            self._tasks = [spawn(self._look_on(), "look for alerts"), spawn(self._send_on(), "send alerts")]

    async def close(self) -> None:
        await self._stop()
        await self._sender.close()

    async def answer(self, request: web.Request) -> web.Response:
        """The alerts that the query asks for, the latest first."""
        try:
            asked = read_all(_PARAMETERS, request.query.items())
        except BadParameters as error:
            body = _encode({"error": str(error), "faults": error.faults})
            return web.Response(body=body, status=400, content_type="application/json")
        conditions, values = [_CONDITIONS[asked["state"] or "open"]], []
        for column in ("detector", "severity"):
            if asked[column] is not None:
                conditions.append(f"{column} = ?")
                values.append(asked[column])
        condition = f'{" AND ".join(conditions)} ORDER BY "at" DESC, id LIMIT {asked["limit"] or 100}'
        try:
            found = await self._questions.ask(lambda cursor: alerts(cursor, condition, values))
        except Unanswered as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from None
        return web.Response(body=_encode({"alerts": list(map(webhooks.shown, found))}), content_type="application/json")

    async def _look_on(self) -> None:
        while not self._over.is_set():
            try:
                self._tell(await asyncio.to_thread(self._look))
            except (GatewaydError, duckdb.Error) as error:
                self._complain(error)
            else:
                self._complaint = ""
            await self._pause(self._over, self._document.alerts.interval)

    async def _send_on(self) -> None:
        while not self._over.is_set():
            if self._sender.webhooks:
                try:
                    await self._sender.round()
                except (GatewaydError, duckdb.Error) as error:
                    self._complain(error)
            await self._pause(self._news, _SENDING)
            self._news.clear()

    def _complain(self, error: Exception) -> None:
        """Once for each kind of failure in a row."""
        if self._over.is_set():
            return
        self._failures += 1
        text = str(error).splitlines()[0]
        if text != self._complaint:
            self._complaint = text
            _log.error("alerts cannot be looked for, or sent: %s", text)

    @staticmethod
    async def _pause(event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    def _look(self) -> list[Change]:
        """In a thread: what became of alerts. After a failure everything is set up anew."""
        began = time.monotonic()
        try:
            watching = self._watching or self._set_up()
            if watching is None:
                return []
            suppressed = watching.book.suppressed
            changes = watching.look(self._clock.wall())
        except BaseException:
            self._let_go()
            raise
        self._suppressed += watching.book.suppressed - suppressed
        self._open_now = Counter((each.detector, each.severity) for each in watching.book.open)
        self._behind = watching.behind(self._clock.wall())
        self._seconds = time.monotonic() - began
        return changes

    def _set_up(self) -> Watching | None:
        cursor = self._open()
        if cursor is not None:
            self._watching = Watching(cursor, self._document, self._put)
        return self._watching

    def _put(self, cursor: duckdb.DuckDBPyConnection, changes: list[Change]) -> None:
        self._sender.given_up += webhooks.put(cursor, self._sender.webhooks, changes, self._clock.wall())

    def _let_go(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.close()

    def _open(self) -> duckdb.DuckDBPyConnection | None:
        """A cursor of the store, with the outbox in it."""
        store = self._store()
        if store is None:
            return None
        cursor = store.cursor()
        cursor.execute(webhooks.SCHEMA)
        return cursor

    def _tell(self, changes: Iterable[Change]) -> None:
        """The log, and whoever waits for deliveries."""
        for change in changes:
            self._news.set()
            alert = change.alert
            if change.kind == "opened":
                self._opened[alert.detector, alert.severity] += 1
            level = logging.INFO if change.kind == "resolved" else logging.WARNING
            _log.log(
                level,
                "alert %s %s (%s, %s): %s",
                alert.id[:8],
                change.kind,
                alert.detector,
                alert.severity,
                _line(alert),
            )

    async def _stop(self) -> None:
        """End the loops; what they are at is interrupted, and done again the next time."""
        self._over.set()
        self._news.set()
        self._sender.stop()
        tasks, self._tasks = self._tasks, []
        while tasks:
            _, pending = await asyncio.wait(tasks, timeout=_STOPPING)
            tasks = list(pending)
            if self._watching is not None and tasks:
                self._watching.interrupt()
        await asyncio.to_thread(self._let_go)


def _line(alert: Alert) -> str:
    most = [f"{each.kind} {each.name} {each.share:.0%}" for each in alert.contributors]
    return f"{alert.text}; most of it: {', '.join(most)}" if most else alert.text


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_CONTRIBUTOR = {
    "type": "object",
    "properties": {"kind": _TEXT, "name": _TEXT, "observed": _NUMBER, "baseline": _NUMBER, "share": _NUMBER},
}
_ALERT = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "at": _TIME,
        "detector": _TEXT,
        "subject": _TEXT,
        "severity": {"type": "string", "enum": ["warning", "critical"]},
        "text": _TEXT,
        "baseline": _NUMBER,
        "observed": _NUMBER,
        "contributors": {"type": "array", "items": _CONTRIBUTOR},
        "resolved_at": {"type": ["string", "null"], "format": "date-time"},
    },
}
_SCHEMA = {"type": "object", "required": ["alerts"], "properties": {"alerts": {"type": "array", "items": _ALERT}}}
