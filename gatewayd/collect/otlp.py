"""Spans of sampled calls to an OpenTelemetry collector: OTLP/HTTP as JSON, in batches, at least once.

Nothing is held in memory but the batch under way: what is not sent yet lies in the store. A batch that could not be
sent is read again before it is tried again, so what was erased meanwhile does not leave. What the collector refuses for
good is left out, and so is what it could not take for `max_age`; both are counted.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import math
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID, uuid5

import msgspec
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gatewayd import __version__
from gatewayd.collect import sampled, spans
from gatewayd.collect.sampled import Batch
from gatewayd.collect.store import Store, StoreError
from gatewayd.config.model import Document
from gatewayd.config.tracing import Tracing
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.state import StateError, state_folder
from gatewayd.core.tasks import spawn
from gatewayd.identity.fetch import Fetched, FetchError, close, fetch
from gatewayd.rfc.dates import read_date

RETRIED = frozenset((429, 502, 503, 504))
"""Answers after which the same may be sent again (OTLP specification, "Retryable Response Codes"); others are final."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a batch is tried again, at first and at last; each failure in a row doubles them."""
COMPLAIN_EVERY = 60.0
"""Seconds between two messages."""
_ANSWER = 64 * 1024
_NAMESPACE = UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
"""Of `service.instance.id` (semantic conventions, resource/service)."""

_log = logging.getLogger(__name__)


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_spans: str | int = 0
    error_message: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    """An `ExportTraceServiceResponse`."""

    partial_success: _PartialSuccess = msgspec.field(default_factory=_PartialSuccess)


class TraceExporter:
    """The part of the control process that exports spans. `store` gives the call store; None: there is none yet."""

    def __init__(
        self,
        store: Callable[[], Store | None],
        clock: Clock | None = None,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`wait(seconds)` is what it waits with between two turns."""
        self.sent = self.rejected = 0  # spans
        self.dropped: Counter[str] = Counter()  # calls left out, by why
        self.failures: Counter[str] = Counter()  # requests that came to nothing, by why
        self.oldest: float | None = None  # when the first call was that could not be sent yet, Unix time
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._wait = wait
        self._config = Tracing()
        self._resource: spans.Attributes = []
        self._task: asyncio.Task[None] | None = None
        self._failed = 0  # times in a row
        self._complained = -math.inf

    # -- a part (collect.part) ----------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.RouteDef]:
        return ()

    def operations(self) -> dict[str, Any]:
        return {}

    def families(self) -> Iterable[Metric]:
        if not self._config.url:
            return
        yield CounterMetricFamily("gatewayd_trace_spans_sent", "Spans that the collector took.", self.sent)
        yield CounterMetricFamily("gatewayd_trace_spans_rejected", "Spans that it threw away.", self.rejected)
        dropped = CounterMetricFamily("gatewayd_trace_calls_dropped", "Sampled calls left out.", labels=["reason"])
        for reason in ("refused", "too_old"):
            dropped.add_metric([reason], self.dropped[reason])
        yield dropped
        failures = CounterMetricFamily("gatewayd_trace_failures", "Requests that came to nothing.", labels=["reason"])
        for reason, count in sorted(self.failures.items()):
            failures.add_metric([reason], count)
        yield failures
        lag = 0.0 if self.oldest is None else max(0.0, self._clock.wall() - self.oldest)
        yield GaugeMetricFamily("gatewayd_trace_lag_seconds", "Age of the oldest sampled call that waits.", lag)

    async def apply(self, document: Document) -> None:
        config = document.tracing
        resource = _resource(document)
        if self._config == config and self._resource == resource and (self._task is not None or not config.url):
            return
        await self._stop()
        self._config, self._resource = config, resource
        self._failed = 0
        if config.url:
            self._task = spawn(self._run(), "export traces")

    async def close(self) -> None:
        await self._stop()
        await close()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- its work -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                pause = await self.turn()
            except Exception as error:  # nothing that goes wrong once ends it
                self.failures["store" if isinstance(error, StoreError) else "internal"] += 1
                self._complain(f"spans could not be read: {type(error).__name__}")
                pause = self._pause()
            await self._wait(pause)

    async def turn(self) -> float:
        """Send a batch, if there is one; how many seconds to wait then. Raises `StoreError`, `duckdb.Error`."""
        store = self._store()
        if store is None:
            return float(self._config.interval)
        batch = await asyncio.to_thread(sampled.read, store, spans.COLUMNS, self._config.batch)
        rows, too_old = self._fresh(batch)
        self.oldest = rows[0].at / 1e6 if rows else None
        if rows:
            pause = await self._send(rows)
            if pause is not None:
                return pause
        self.dropped["too_old"] += too_old
        self.oldest = None
        await asyncio.to_thread(sampled.commit, store, batch.reached)
        self._failed = 0
        return 0.0 if batch.more else float(self._config.interval)

    def _fresh(self, batch: Batch) -> tuple[list[spans.Row], int]:
        """The rows that are not too old, and how many are."""
        rows = [spans.Row._make(row) for row in batch.rows]
        since = (self._clock.wall() - self._config.max_age) * 1e6
        fresh = [row for row in rows if row.at >= since]
        return fresh, len(rows) - len(fresh)

    async def _send(self, rows: list[spans.Row]) -> float | None:
        """None if they are done with, sent or refused; else how many seconds to wait until they are tried again."""
        body, count = await asyncio.to_thread(self._body, rows)
        try:
            answer = await self._post(body)
        except FetchError as error:
            return self._again(error.reason)
        if answer.status in RETRIED:
            return self._again(str(answer.status), _retry_after(answer, self._clock.wall()))
        if 200 <= answer.status < 300:
            rejected = min(_rejected(answer.body), count)
            self.sent += count - rejected
            self.rejected += rejected
            if rejected:
                self._complain(f"the collector threw {rejected} spans away")
        else:
            self.dropped["refused"] += len(rows)
            self.failures[str(answer.status)] += 1
            self._complain(f"the collector refuses spans: {answer.status}")
        return None

    def _body(self, rows: list[spans.Row]) -> tuple[bytes, int]:
        body, count = spans.request(self._resource, rows)
        return gzip.compress(body, 6, mtime=0), count

    async def _post(self, body: bytes) -> Fetched:
        config = self._config
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": f"gatewayd/{__version__}",
        } | config.headers
        return await fetch(
            f"{config.url.rstrip('/')}/v1/traces",
            method="POST",
            headers=[(name.encode(), value.encode("utf-8")) for name, value in headers.items()],
            body=body,
            timeout=config.timeout,
            limit=_ANSWER,
            ca=config.ca,
        )

    def _again(self, reason: str, asked: float | None = None) -> float:
        self.failures[reason] += 1
        self._complain(f"spans could not be sent, and wait: {reason}")
        pause = self._pause()
        return pause if asked is None else min(asked, float(self._config.max_age))

    def _pause(self) -> float:
        longest = min(FIRST_PAUSE * 2 ** min(self._failed, 30), LONGEST_PAUSE)
        self._failed += 1
        return random.uniform(longest / 2, longest)  # noqa: S311 - so that not all gateways come at once

    def _complain(self, text: str) -> None:
        now = self._clock.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            _log.warning("tracing: %s", text)


def _resource(document: Document) -> spans.Attributes:
    config = document.tracing
    host = socket.gethostname()
    try:
        place = str(state_folder(document))
    except StateError:
        place = ""
    values = {
        "service.name": config.service_name or document.gateway.name,
        "service.version": __version__,
        "service.instance.id": str(uuid5(_NAMESPACE, f"{host}{place}")),
        "host.name": host,
    }
    return spans.attributes(values | config.attributes)


def _rejected(body: bytes) -> int:
    """Spans that an answer says were thrown away; 0 of one that says nothing we read."""
    try:
        return max(0, int(msgspec.json.decode(body, type=_Answer).partial_success.rejected_spans))
    except (msgspec.DecodeError, ValueError):
        return 0


def _retry_after(answer: Fetched, now: float) -> float | None:
    """Seconds that an answer asks to wait for (RFC 9110 §10.2.3)."""
    for name, value in answer.headers:
        if name == b"retry-after":
            if value.isdigit():
                return float(value[:9])
            date = read_date(value, now)
            return None if date is None else max(0.0, date - now)
    return None
