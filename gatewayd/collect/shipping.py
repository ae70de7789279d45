"""Shipping: the part of the control process that sends call records to the sinks of the configuration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gatewayd.audit.keys import load_signer
from gatewayd.collect.sinks import clickhouse, file, postgres, syslog
from gatewayd.collect.sinks.fields import Origin
from gatewayd.collect.sinks.sink import CLOSING, Runner, Sink
from gatewayd.collect.store import Store
from gatewayd.config.model import Document
from gatewayd.config.sinks import AnySink, ClickhouseSink, FileSink, PostgresSink
from gatewayd.core.state import state_folder
from gatewayd.core.tasks import spawn


class Shipping:
    """Runs the sinks. `store` gives what to read from; None as long as there is none. A `collect.part.Part`."""

    def __init__(self, store: Callable[[], Store | None]) -> None:
        self._store = store
        self._origin = Origin("", "")
        self._running: dict[str, tuple[AnySink, Runner, asyncio.Task[None]]] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        """None."""
        return ()

    def operations(self) -> dict[str, Any]:
        """None."""
        return {}

    def families(self) -> Iterator[Metric]:
        """What each sink has sent, and how far it lags behind."""
        labels, now = ["sink"], time.time()
        counters = {
            "sent": ("gatewayd_sink_sent_records", "Records that the target took."),
            "refused": ("gatewayd_sink_refused_records", "Records that the target found fault with; left out."),
            "skipped": ("gatewayd_sink_skipped_records", "Records removed by retention before they were sent."),
            "failures": ("gatewayd_sink_failures", "Attempts that failed and were made again."),
        }
        runners = {name: runner for name, (_, runner, _) in self._running.items()}
        for attribute, (family_name, told) in counters.items():
            family = CounterMetricFamily(family_name, told, labels=labels)
            for name, runner in runners.items():
                family.add_metric([name], getattr(runner, attribute))
            yield family
        up = GaugeMetricFamily("gatewayd_sink_up", "The last attempt went well.", labels=labels)
        behind = GaugeMetricFamily("gatewayd_sink_lag_records", "Records not sent yet.", labels=labels)
        lag = GaugeMetricFamily("gatewayd_sink_lag_seconds", "Age of the oldest record not sent yet.", labels=labels)
        for name, runner in runners.items():
            up.add_metric([name], runner.up)
            behind.add_metric([name], runner.behind)
            lag.add_metric([name], runner.lag(now))
        yield from (up, behind, lag)

    async def apply(self, document: Document) -> None:
        """Run the sinks of `document`: those that changed anew, from where they stood."""
        origin = self._origin
        if document.sinks:
            origin = await asyncio.to_thread(_origin, document)
        gone = [
            name
            for name, (config, _, task) in self._running.items()
            if document.sinks.get(name) != config or origin != self._origin or task.done()
        ]
        await self._end(gone)
        self._origin = origin
        for name, config in document.sinks.items():
            if name not in self._running:
                sink = await asyncio.to_thread(made, config, origin)  # what it imports takes a while
                runner = Runner(name, config, sink, self._store)
                self._running[name] = (config, runner, spawn(runner.run(), f"sink {name}"))

    async def close(self) -> None:
        """End all, each behind the batch that is under way if that does not take long."""
        await self._end(list(self._running))

    async def _end(self, names: list[str]) -> None:
        ended = [self._running.pop(name) for name in names]
        for _, runner, _ in ended:
            runner.stop()
        tasks = [task for _, _, task in ended]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSING)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def made(config: AnySink, origin: Origin) -> Sink:
    """The sink that a table of the configuration asks for."""
    if isinstance(config, PostgresSink):
        return postgres.Sink(config, origin)
    if isinstance(config, ClickhouseSink):
        return clickhouse.Sink(config, origin)
    if isinstance(config, FileSink):
        return file.Sink(config, origin)
    return syslog.Sink(config, origin)


def _origin(document: Document) -> Origin:
    return Origin(load_signer(state_folder(document)).id, document.gateway.name)
