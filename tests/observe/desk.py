"""An access log with all it needs, for tests."""

from __future__ import annotations

from typing import Any

from gatewayd.config import model
from gatewayd.config.units import Duration, Size
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange
from gatewayd.observe import metrics
from gatewayd.observe.access_log import AccessLog
from gatewayd.observe.metrics import WorkerMetrics, read


class Desk:
    """An access log with what it needs."""

    def __init__(self, path: str, buffer: int = 64 * 1024, flush_interval: float = 1) -> None:
        self.clock = FakeClock(now=1000.0, wall=1_800_000_000.0)
        self.memory = memoryview(bytearray(metrics.size_bytes(1)))
        config = model.AccessLog(path=path, buffer=Size(buffer), flush_interval=Duration(flush_interval))
        self.log = AccessLog(config, self.clock, WorkerMetrics(self.memory, 0))

    def write(self, exchange: Exchange) -> None:
        self.log.write(exchange, self.clock.now)

    def tick(self, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        self.log.tick(self.clock.now)

    def cell(self, counter: int) -> int:
        return read(self.memory, {}, [0]).sum(counter)


def exchange(**what: Any) -> Exchange:
    made = Exchange()
    made.started = 999.9375
    made.status = 200
    made.request_id = b"0123456789abcdef"
    made.client = "203.0.113.7"
    made.method = b"GET"
    made.host = b"api.example"
    made.path = b"/v1/quotes/7"
    for name, value in what.items():
        setattr(made, name, value)
    return made
