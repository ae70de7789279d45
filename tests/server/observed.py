"""A daemon as it shows itself: what the supervisor says of two workers, and what these counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import Metric

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Route
from gatewayd.observe import metrics
from gatewayd.observe.metrics import Totals, WorkerMetrics
from gatewayd.server.shared_memory import OTHER

POOL = {"open": 5, "idle": 3, "busy": 2, "waiting": 1, "dials": 9, "reused": 70}
TARGET = {
    "address": "localhost:9000",
    "place": "127.0.0.1:9000",
    "available": True,
    "in_flight": 2,
    "requests": 7,
    "failures": 1,
    "ejections": 3,
    "ejected_for": 0.0,
    "latency_ms": 12.5,
    "probe": "healthy",
    "pool": POOL,
}
OTHER_TARGET = {
    **TARGET,
    "place": "[::1]:9000",
    "available": False,
    "requests": 9,
    "ejected_for": 2.5,
    "probe": "off",
    "pool": None,
}
EDGE = {
    "upstreams": {
        "policies": {"targets": [TARGET, OTHER_TARGET], "breaker": {"state": "half_open", "opened": 2}},
    },
    "certificates": {"https": {"/etc/a.pem": 1.9e9}},
    "figures": {
        "stored": {"policy": "cache", "mode": "enforce", "entries": 3, "bytes": 1000, "bytes_most": 5000},
        "fair": {"policy": "rate_limit", "mode": "observe", "keys": 40, "keys_most": 131072},
    },
}
STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "pid": os.getpid(),
    "state": "serving",
    "ready": True,
    "generation": 4,
    "started": 1_800_000_000.0,
    "control": {"restarts": 1},
    "reloads": {"succeeded": 3, "failed": 1},
    "workers": [
        {"index": 0, "pid": os.getpid(), "state": "serving", "restarts": 2, "edge": EDGE},
        {"index": 1, "pid": 0, "state": "waiting", "restarts": 0, "edge": None},
    ],
    "parts": [0, 1],
}
SLOTS = {OTHER: 0, "quotes": 1}
Samples = dict[tuple[Any, ...], float]


def exchange(slot: int, **fields: Any) -> Exchange:
    """One that is over; it began at second 100."""
    ended = Exchange()
    ended.route = Route("quotes", lambda _: None)
    ended.route.slot = slot
    ended.started = 100.0
    for name, value in fields.items():
        setattr(ended, name, value)
    return ended


def count(worker: WorkerMetrics, number: int) -> None:
    """What worker `number` of the two counts."""
    worker.name_policies({"partner-cors": ("cors", "enforce")})
    for counter in (metrics.CONNECTIONS_ACCEPTED, metrics.AUDIT_WRITTEN, metrics.AUDIT_DROPPED):
        worker.count(counter, 5)
    worker.put(metrics.LOG_LAG_MILLISECONDS, 1500 * number)
    worker.put(metrics.AUDIT_LAG_MILLISECONDS, 250 * number)
    worker.put(metrics.AUDIT_FULL, number)
    worker.record(
        exchange(
            1,
            status=200,
            attempts=2,
            upstream_seconds=0.25,
            body_received=10,
            body_sent=20,
            request_id=b"answered-%d" % number,
        ),
        100.5,
    )
    worker.record(exchange(0, status=429, code="limited", verdicts=[("partner-cors", "refused")]), 100.0)
    worker.flush()


def totals() -> Totals:
    """What both workers counted."""
    memory = memoryview(bytearray(metrics.size_bytes(2)))
    for number in (0, 1):
        count(WorkerMetrics(memory, number), number)
    return metrics.read(memory, SLOTS, [0, 1])


def samples(families: Iterable[Metric]) -> Samples:
    """Values by name and labels, `(name, (label, value), …)`."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def named(found: Samples, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Labels and value of each sample of that name."""
    for (of, *labels), value in found.items():
        if of == name:
            yield dict(labels), value
