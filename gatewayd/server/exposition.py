"""The metrics page: cells of shared memory and the daemon's status in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from gatewayd.observe import metrics
from gatewayd.observe.metrics import RouteTotals, Totals

CONTENT_TYPE = CONTENT_TYPE_LATEST


def page(status: Mapping[str, Any], totals: Totals, more: Iterable[Metric] = ()) -> bytes:
    """The whole page. `status` is the supervisor's; `more` families stand at its end."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(status, totals, more))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, status: Mapping[str, Any], totals: Totals, more: Iterable[Metric]) -> None:
        self._status = status
        self._totals = totals
        self._more = more

    def collect(self) -> Iterator[Metric]:
        """Every family, in the order of the page."""
        yield from _daemon(self._status)
        yield from _workers(self._status["workers"])
        yield from _targets(self._status["workers"])
        yield from _upstreams(self._status["workers"])
        yield _certificates(self._status["workers"])
        yield from _connections(self._totals)
        yield from _tokens(self._totals)
        yield from _routes(self._totals.routes)
        share = HistogramMetricFamily(
            "gatewayd_own_duration_seconds", "What the gateway added to exchanges: total less upstream time."
        )
        share.add_metric([], _buckets(self._totals.share), self._totals.share_sum)
        yield share
        yield from self._more


def _daemon(status: Mapping[str, Any]) -> Iterator[Metric]:
    yield InfoMetricFamily("gatewayd_build", "The version that runs.", {"version": status["version"]})
    yield GaugeMetricFamily("gatewayd_ready", "Every worker serves the current generation.", status["ready"])
    yield GaugeMetricFamily("gatewayd_generation", "Generation of the configuration.", status["generation"])
    yield GaugeMetricFamily("gatewayd_start_time_seconds", "When it started, Unix time.", status["started"])
    yield _counter("gatewayd_reloads", "Reloads, by outcome.", "outcome", status["reloads"])


def _workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    up = GaugeMetricFamily("gatewayd_worker_up", "The worker serves.", labels=["worker"])
    restarts = CounterMetricFamily("gatewayd_worker_restarts", "Times it was started again.", labels=["worker"])
    for worker in workers:
        name = [str(worker["index"])]
        up.add_metric(name, worker["state"] == "serving")
        restarts.add_metric(name, worker["restarts"])
    yield up
    yield restarts


def _targets(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = ["worker", "upstream", "target", "place"]
    available = GaugeMetricFamily("gatewayd_target_available", "The worker sends it requests.", labels=labels)
    in_flight = GaugeMetricFamily("gatewayd_target_in_flight", "Exchanges under way with it.", labels=labels)
    requests = CounterMetricFamily("gatewayd_target_requests", "Requests sent to it.", labels=labels)
    failures = CounterMetricFamily("gatewayd_target_failures", "Requests it failed.", labels=labels)
    ejections = CounterMetricFamily("gatewayd_target_ejections", "Times it had to rest.", labels=labels)
    for worker in workers:
        for upstream, group in (worker["edge"] or {}).get("upstreams", {}).items():
            for target in group["targets"]:
                values = [str(worker["index"]), upstream, target["address"], target["place"]]
                available.add_metric(values, target["available"])
                in_flight.add_metric(values, target["in_flight"])
                requests.add_metric(values, target["requests"])
                failures.add_metric(values, target["failures"])
                ejections.add_metric(values, target["ejections"])
    yield from (available, in_flight, requests, failures, ejections)


def _upstreams(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = ["worker", "upstream"]
    unclosed = GaugeMetricFamily("gatewayd_breaker_open", "The breaker refuses: open or half-open.", labels=labels)
    opened = CounterMetricFamily("gatewayd_breaker_opened", "Times it went from closed to open.", labels=labels)
    for worker in workers:
        for upstream, group in (worker["edge"] or {}).get("upstreams", {}).items():
            values = [str(worker["index"]), upstream]
            unclosed.add_metric(values, group["breaker"]["state"] != "closed")
            opened.add_metric(values, group["breaker"]["opened"])
    yield from (unclosed, opened)


def _certificates(workers: list[dict[str, Any]]) -> Metric:
    """All workers of a generation have the same; while one follows another the earlier end counts."""
    family = GaugeMetricFamily(
        "gatewayd_certificate_expires_timestamp_seconds",
        "When a listener's certificate ceases to be valid, Unix time.",
        labels=["listener", "certificate"],
    )
    ends: dict[tuple[str, str], float] = {}
    for worker in workers:
        for listener, files in (worker["edge"] or {}).get("certificates", {}).items():
            for file, end in files.items():
                ends[listener, file] = min(end, ends.get((listener, file), end))
    for labels, end in ends.items():
        family.add_metric(labels, end)
    return family


def _connections(totals: Totals) -> Iterator[Metric]:
    counters = (
        ("gatewayd_connections_accepted", "Connections accepted.", metrics.CONNECTIONS_ACCEPTED),
        ("gatewayd_tls_handshakes_failed", "TLS handshakes that failed.", metrics.TLS_HANDSHAKES_FAILED),
        ("gatewayd_access_log_dropped", "Access log lines that were lost.", metrics.LOG_LINES_DROPPED),
    )
    for name, text, cell in counters:
        yield CounterMetricFamily(name, text, totals.sum(cell))
    gauges = (
        ("gatewayd_connections_open", "Connections open.", metrics.CONNECTIONS_OPEN),
        ("gatewayd_requests_in_flight", "Exchanges under way.", metrics.REQUESTS_IN_FLIGHT),
        ("gatewayd_access_log_pending_bytes", "Access log not written yet.", metrics.LOG_PENDING_BYTES),
    )
    for name, text, cell in gauges:
        yield GaugeMetricFamily(name, text, totals.sum(cell))
    lag = max((cells[metrics.LOG_LAG_MILLISECONDS] for cells in totals.workers), default=0)
    yield GaugeMetricFamily("gatewayd_access_log_lag_seconds", "Age of the oldest line waiting.", lag / 1000)


def _tokens(totals: Totals) -> Iterator[Metric]:
    tables = (
        ("gatewayd_refusals", "Answers made here, by problem code.", "code", metrics.REFUSALS),
        ("gatewayd_upstream_failures", "Exchanges that failed upstream.", "reason", metrics.FAILURES),
        ("gatewayd_connections_refused", "Connections not served.", "reason", metrics.CONNECTIONS_REFUSED),
    )
    for name, text, label, table in tables:
        yield _counter(name, text, label, totals.tokens[table])
    verdicts = CounterMetricFamily("gatewayd_policy_verdicts", "What policies decided.", labels=["policy", "verdict"])
    for token, count in totals.tokens[metrics.VERDICTS].items():
        verdict, _, policy = token.partition(":")
        verdicts.add_metric([policy, verdict], count)
    yield verdicts


def _routes(routes: Mapping[str, RouteTotals]) -> Iterator[Metric]:
    requests = CounterMetricFamily("gatewayd_requests", "Exchanges that ended.", labels=["route", "class"])
    for name, row in routes.items():
        for kind, count in zip(metrics.CLASSES, row.classes, strict=True):
            if count:
                requests.add_metric([name, kind], count)
    yield requests
    yield _per_route("gatewayd_upstream_attempts", "Requests sent upstream.", "attempts", routes)
    yield _per_route("gatewayd_upstream_retries", "Attempts beyond the first.", "retries", routes)
    yield _per_route("gatewayd_request_body_bytes", "Body bytes received from callers.", "bytes_in", routes)
    yield _per_route("gatewayd_reply_body_bytes", "Body bytes sent to callers.", "bytes_out", routes)
    total = HistogramMetricFamily("gatewayd_request_duration_seconds", "Whole exchanges.", labels=["route"])
    upstream = HistogramMetricFamily(
        "gatewayd_upstream_duration_seconds", "Until the reply's head came.", labels=["route"]
    )
    for name, row in routes.items():
        total.add_metric([name], _buckets(row.total), row.total_sum)
        upstream.add_metric([name], _buckets(row.upstream), row.upstream_sum)
    yield total
    yield upstream


def _per_route(name: str, text: str, what: str, routes: Mapping[str, RouteTotals]) -> CounterMetricFamily:
    return _counter(name, text, "route", {route: getattr(row, what) for route, row in routes.items()})


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in counts.items():
        family.add_metric([key], count)
    return family


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    """Counts per bucket as the format wants them: up to each bound, all smaller ones included."""
    bounds = [*(repr(bound) for bound in metrics.BOUNDS), "+Inf"]
    total = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        found.append((bound, total))
    return found
