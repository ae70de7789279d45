"""The part of the control process that collects: a thread that adds to the store what chains have, at every interval.

Nothing that fails in it ends it: it is said in the log, counted, and tried again, after longer and longer waits.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import duckdb
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gatewayd.audit.keys import Signer, SigningKeyError, signer_at
from gatewayd.collect.chains import Figures
from gatewayd.collect.ingest import Ingest
from gatewayd.collect.store import FILE, Store, StoreBusy
from gatewayd.config.collector import Collector as Config
from gatewayd.config.model import Document
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.state import state_folder

LONGEST_WAIT: Final = 30.0
"""Seconds between two attempts at most."""
BUSY_WAIT: Final = 0.5
"""Seconds between two looks whether another process has let go of the store."""
PATIENCE: Final = 5.0
"""Seconds that a transaction under way gets to end when this is closed."""
SWITCH: Final = 0.0005
"""Seconds after which one thread gives way to another: DuckDB asks for the interpreter's lock for each column of texts,
some hundred times a second, and would wait for what decodes ten times as long."""

_log = logging.getLogger(__name__)


class Collector:
    """Has the store and what fills it. `store` is for other parts, too; it says so where nothing is collected."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.store = Store()
        self._clock = clock or SystemClock()
        self._work: _Work | None = None
        self._past = Figures()  # of work that ended

    def routes(self) -> Iterable[web.RouteDef]:
        """None."""
        return ()

    def operations(self) -> dict[str, Any]:
        """None."""
        return {}

    def families(self) -> Iterable[Metric]:
        """How much was collected, what is missing, and how far behind it is."""
        work, store = self._work, self.store
        now = work.figures if work is not None else Figures()
        past = self._past
        counters = (
            ("records", "Call records added to the store.", now.records + past.records),
            ("records_missing", "Records that were lost before they could be read.", now.missing + past.missing),
            ("records_unreadable", "Records that could not be decoded.", now.unreadable + past.unreadable),
            ("chain_breaks", "Times a chain was not what had been written.", now.breaks + past.breaks),
            (
                "failures",
                "Failed attempts to collect, a segment that cannot be read among them.",
                now.failures + now.unread + past.failures + past.unread,
            ),
            ("store_failures", "Failed attempts to open the store.", store.failures),
            ("cpu_seconds", "CPU time of collecting.", now.cpu + past.cpu),
        )
        for name, text, value in counters:
            yield CounterMetricFamily(f"gatewayd_collector_{name}", text, value)
        lag = self._clock.wall() - now.oldest if now.oldest else 0.0
        gauges = (
            ("up", "Records are being collected.", work is not None and work.well),
            ("lag_seconds", "Age of the last call collected, while there are more.", max(lag, 0.0)),
            ("lag_bytes", "Bytes of records that are not collected yet.", now.behind),
            ("broken_chains", "Chains that are not read on, for they are not what was written.", now.broken),
            ("store_bytes", "Size of the store on disk.", store.size()),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"gatewayd_collector_{name}", text, value)

    async def apply(self, document: Document) -> None:
        """Collect, or not, as `document` says. Raises `StateError`."""
        config = document.collector
        state = state_folder(document) if document.audit.enabled and config.enabled else None
        if self._work is not None and state != self._work.state:
            await self._end()
        if state is None:
            return
        self.store.limit(config.memory)
        if self._work is not None:
            self._work.config = config
            return
        self.store.path = state / FILE
        self._work = _Work(self.store, state, self._clock, config)
        self._work.start()

    async def close(self) -> None:
        """End cleanly: what was read is in the store, or is read again next time."""
        await self._end()

    async def _end(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            await asyncio.to_thread(work.stop)
            self._past.add(work.figures)
        await asyncio.to_thread(self.store.close)
        self.store.path = None


class _Work(threading.Thread):
    """What the thread does."""

    def __init__(self, store: Store, state: Path, clock: Clock, config: Config) -> None:
        super().__init__(name="collector", daemon=True)
        self.state = state
        self.config = config
        self.figures = Figures()
        self.well = False
        """The last attempt succeeded."""
        self._store = store
        self._clock = clock
        self._stopping = threading.Event()
        self._ingest: Ingest | None = None
        self._failed = 0  # in a row

    def run(self) -> None:
        """Collect until `stop` is called."""
        sys.setswitchinterval(SWITCH)
        while not self._stopping.is_set():
            self._stopping.wait(self._attempt())
        if self._ingest is not None:
            self._ingest.close()

    def stop(self) -> None:
        """End, a transaction under way first if that does not take long. Blocks."""
        self._stopping.set()
        self.join(PATIENCE)
        while self.is_alive():
            if self._ingest is not None:
                self._ingest.interrupt()
            self.join(BUSY_WAIT)

    def _attempt(self) -> float:
        """One step; how long to wait then."""
        try:
            more = self._step()
        except StoreBusy as error:
            if self.well or not self._failed:
                _log.warning("%s; waiting for it", error)
            self.well = False
            self._failed = max(self._failed, 1)
            return BUSY_WAIT
        except Exception as error:
            if self._stopping.is_set():
                return 0.0
            self.well = False
            self.figures.failures += 1
            self._failed += 1
            if isinstance(error, duckdb.FatalException | duckdb.InternalException):
                self._store.close()  # it is of no use any more, and read from the disk again
            _log.error("the collector failed: %s: %s", type(error).__name__, error, exc_info=self._failed == 1)
            return min(float(self.config.interval) * 2.0 ** min(self._failed, 10), LONGEST_WAIT)
        self.well = True
        self._failed = 0
        return 0.0 if more else self.config.interval

    def _step(self) -> bool:
        if self._ingest is None:
            self._ingest = Ingest(self._store, self.state, self._signer(), self._clock, self.figures)
        more = self._ingest.step(self.config)
        self.figures.cpu = time.thread_time() + self._ingest.reader_cpu()
        return more

    def _signer(self) -> Signer | None:
        """Whose chains these are, where its key can be read."""
        try:
            return signer_at(self.state)
        except SigningKeyError as error:
            _log.error("records are collected without being verified: %s", error)
            return None
