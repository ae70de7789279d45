"""Families of what workers count in shared memory: exchanges, verdicts, connections, the log and the audit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily

from gatewayd.observe import exemplars, metrics
from gatewayd.observe.metrics import RouteTotals, Totals
from gatewayd.observe.tokens import Verdict
from gatewayd.server.families import counter

_BOUNDS = [*(repr(bound) for bound in metrics.BOUNDS), "+Inf"]


def families(totals: Totals) -> Iterator[Metric]:
    """All of them."""
    yield from _connections(totals)
    yield from _audit(totals)
    yield from _tokens(totals)
    yield _verdicts(totals.verdicts)
    yield from _routes(totals.routes)
    yield from _durations(totals)


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
    lag = totals.most(metrics.LOG_LAG_MILLISECONDS) / 1000
    yield GaugeMetricFamily("gatewayd_access_log_lag_seconds", "Age of the oldest line waiting.", lag)


def _audit(totals: Totals) -> Iterator[Metric]:
    written, dropped = totals.sum(metrics.AUDIT_WRITTEN), totals.sum(metrics.AUDIT_DROPPED)
    yield CounterMetricFamily("gatewayd_audit_records", "Call records written.", written)
    yield CounterMetricFamily("gatewayd_audit_dropped", "Call records that were lost.", dropped)
    full, lag = totals.sum(metrics.AUDIT_FULL), totals.most(metrics.AUDIT_LAG_MILLISECONDS) / 1000
    yield GaugeMetricFamily("gatewayd_audit_full", "Workers whose records find no room.", full)
    yield GaugeMetricFamily("gatewayd_audit_lag_seconds", "Age of the oldest record not on the disk.", lag)


def _tokens(totals: Totals) -> Iterator[Metric]:
    tables = (
        ("gatewayd_refusals", "Answers made here, by problem code.", "code", metrics.REFUSALS),
        ("gatewayd_upstream_failures", "Exchanges that failed upstream.", "reason", metrics.FAILURES),
        ("gatewayd_connections_refused", "Connections not served.", "reason", metrics.CONNECTIONS_REFUSED),
    )
    for name, text, label, table in tables:
        yield counter(name, text, label, totals.tokens[table])


def _verdicts(verdicts: Mapping[Verdict, int]) -> Metric:
    labels = ["policy", "type", "mode", "verdict"]
    family = CounterMetricFamily("gatewayd_policy_verdicts", "What policies decided.", labels=labels)
    for each, count in verdicts.items():
        family.add_metric([each.instance, each.policy, each.mode, each.verdict], count)
    return family


def _routes(routes: Mapping[str, RouteTotals]) -> Iterator[Metric]:
    requests = CounterMetricFamily("gatewayd_requests", "Exchanges that ended.", labels=["route", "class"])
    for name, row in routes.items():
        for kind, count in zip(metrics.CLASSES, row.classes, strict=True):
            if count or kind == "5xx":  # alerts are to see the first of them rise from 0
                requests.add_metric([name, kind], count)
    yield requests
    columns = (
        ("gatewayd_upstream_attempts", "Requests sent upstream.", "attempts"),
        ("gatewayd_upstream_retries", "Attempts beyond the first.", "retries"),
        ("gatewayd_request_body_bytes", "Body bytes received from callers.", "bytes_in"),
        ("gatewayd_reply_body_bytes", "Body bytes sent to callers.", "bytes_out"),
    )
    for name, text, what in columns:
        yield counter(name, text, "route", {route: getattr(row, what) for route, row in routes.items()})


def _durations(totals: Totals) -> Iterator[Metric]:
    """The histograms, one after the other: with thousands of routes each is large."""
    yield _histogram(totals, "gatewayd_request_duration_seconds", "Whole exchanges.", "total")
    yield _histogram(totals, "gatewayd_upstream_duration_seconds", "Until the reply's head came.", "upstream")
    yield _histogram(totals, "gatewayd_own_duration_seconds", "What the gateway added.", "own")


def _histogram(totals: Totals, name: str, text: str, what: str) -> Metric:
    """Each bucket has the newest exemplar there is of it. `what` is a column of `RouteTotals`, and of exemplars."""
    family = HistogramMetricFamily(name, text, labels=["route"])
    for route, row in totals.routes.items():
        known = [(getattr(each, what), each) for each in totals.exemplars.get(route, ())]
        family.add_metric([route], _buckets(getattr(row, what), known), getattr(row, f"{what}_sum"))
    return family


_Bucket = tuple[str, float] | tuple[str, float, Exemplar]


def _buckets(counts: list[int], known: Iterable[tuple[float, exemplars.Exemplar]]) -> list[_Bucket]:
    """Counts per bucket as the format wants them: up to each bound, all smaller ones included."""
    newest: dict[int, tuple[float, exemplars.Exemplar]] = {}
    for seconds, each in sorted(known, key=lambda pair: pair[1].when):
        newest[bisect_left(metrics.BOUNDS, seconds)] = seconds, each
    total = 0
    found: list[_Bucket] = []
    for place, (bound, count) in enumerate(zip(_BOUNDS, counts, strict=True)):
        total += count
        if count and place in newest:
            seconds, shown = newest[place]
            found.append((bound, total, Exemplar({shown.kind: shown.id}, seconds, shown.when)))
        else:
            found.append((bound, total))
    return found
