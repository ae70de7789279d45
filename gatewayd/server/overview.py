"""What `GET /v1/top` tells: everything that `gatewayd top` shows, as counters. Who asks twice has rates.

The shapes are msgspec structs, so that both ends name the same thing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gatewayd.observe import metrics
from gatewayd.observe.metrics import RouteTotals, Totals


class RouteCounts(Struct, frozen=True):
    """A route's exchanges: by class (`Overview.classes`), by bucket of their time (`Overview.bounds`), in bytes."""

    classes: list[int]
    durations: list[int]
    upstream_seconds: float
    total_seconds: float
    bytes_in: int
    bytes_out: int


class VerdictCount(Struct, frozen=True):
    """How often an instance decided so. `policy` is its name, `type` what it is an instance of."""

    policy: str
    type: str
    mode: str
    verdict: str
    count: int


class TargetCounts(Struct, frozen=True):
    """A target over all workers: `available` in so many of `workers` that know it. Latency where it is worst."""

    upstream: str
    target: str
    available: int
    workers: int
    in_flight: int
    requests: int
    failures: int
    latency_seconds: float
    connections: int
    waiting: int
    breaker: str


class Overview(Struct, frozen=True, kw_only=True):
    """The daemon at a moment. Times are Unix seconds, `bounds` and lags seconds; everything counted since its start."""

    now: float
    started: float
    version: str
    generation: int
    ready: bool
    state: str
    workers: int
    serving: int
    restarts: int
    connections: int
    in_flight: int
    log_lag: float
    log_dropped: int
    audit_lag: float
    audit_dropped: int
    audit_full: int
    classes: list[str]
    bounds: list[float]
    routes: dict[str, RouteCounts]
    refusals: dict[str, int]
    failures: dict[str, int]
    verdicts: list[VerdictCount]
    targets: list[TargetCounts]


def overview(status: Mapping[str, Any], totals: Totals) -> Overview:
    """The present one. `status` is the supervisor's."""
    workers = status["workers"]
    return Overview(
        now=time.time(),
        started=status["started"],
        version=status["version"],
        generation=status["generation"],
        ready=status["ready"],
        state=status.get("state", ""),
        workers=len(workers),
        serving=sum(each["state"] == "serving" for each in workers),
        restarts=sum(each["restarts"] for each in workers),
        connections=totals.sum(metrics.CONNECTIONS_OPEN),
        in_flight=totals.sum(metrics.REQUESTS_IN_FLIGHT),
        log_lag=totals.most(metrics.LOG_LAG_MILLISECONDS) / 1000,
        log_dropped=totals.sum(metrics.LOG_LINES_DROPPED),
        audit_lag=totals.most(metrics.AUDIT_LAG_MILLISECONDS) / 1000,
        audit_dropped=totals.sum(metrics.AUDIT_DROPPED),
        audit_full=totals.sum(metrics.AUDIT_FULL),
        classes=list(metrics.CLASSES),
        bounds=list(metrics.BOUNDS),
        routes={name: _route(row) for name, row in totals.routes.items()},
        refusals=totals.tokens[metrics.REFUSALS],
        failures=totals.tokens[metrics.FAILURES],
        verdicts=[VerdictCount(*each, count) for each, count in totals.verdicts.items()],
        targets=_targets(workers),
    )


def _route(row: RouteTotals) -> RouteCounts:
    return RouteCounts(row.classes, row.total, row.upstream_sum, row.total_sum, row.bytes_in, row.bytes_out)


def _targets(workers: list[dict[str, Any]]) -> list[TargetCounts]:
    told: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    breakers: dict[str, str] = {}
    for worker in workers:
        for upstream, group in (worker["edge"] or {}).get("upstreams", {}).items():
            breakers[upstream] = max(breakers.get(upstream, "closed"), group["breaker"]["state"], key=_WORSE.index)
            for target in group["targets"]:
                told.setdefault((upstream, target["address"]), []).append(target)
    return [_target(upstream, address, each, breakers[upstream]) for (upstream, address), each in told.items()]


_WORSE = ("closed", "half_open", "open")


def _target(upstream: str, address: str, told: list[Mapping[str, Any]], breaker: str) -> TargetCounts:
    pools = [each["pool"] for each in told if each["pool"] is not None]
    return TargetCounts(
        upstream,
        address,
        sum(each["available"] for each in told),
        len(told),
        sum(each["in_flight"] for each in told),
        sum(each["requests"] for each in told),
        sum(each["failures"] for each in told),
        max(each["latency_ms"] for each in told) / 1000,
        sum(each["open"] for each in pools),
        sum(each["waiting"] for each in pools),
        breaker,
    )
