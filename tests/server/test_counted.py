"""What workers counted, as families."""

from __future__ import annotations

from gatewayd.observe import metrics
from gatewayd.server.counted import families
from gatewayd.server.shared_memory import OTHER
from tests.server.observed import exchange, named, samples, totals


def found():
    return samples(families(totals()))


def test_what_all_workers_counted_is_added_up():
    shown = found()
    assert shown[("gatewayd_connections_accepted_total",)] == 10
    assert shown["gatewayd_requests_total", ("class", "2xx"), ("route", "quotes")] == 2
    assert shown["gatewayd_requests_total", ("class", "4xx"), ("route", OTHER)] == 2
    assert shown["gatewayd_requests_total", ("class", "5xx"), ("route", OTHER)] == 0
    assert ("gatewayd_requests_total", ("class", "3xx"), ("route", OTHER)) not in shown
    assert shown["gatewayd_upstream_retries_total", ("route", "quotes")] == 2
    assert shown["gatewayd_request_body_bytes_total", ("route", "quotes")] == 20
    assert shown["gatewayd_reply_body_bytes_total", ("route", "quotes")] == 40
    assert shown["gatewayd_refusals_total", ("code", "limited")] == 2


def test_verdicts_by_instance_policy_and_mode():
    (one,) = named(found(), "gatewayd_policy_verdicts_total")
    assert one == ({"policy": "partner-cors", "type": "cors", "mode": "enforce", "verdict": "refused"}, 2)


def test_of_lags_the_worst_is_told():
    shown = found()
    assert shown[("gatewayd_access_log_lag_seconds",)] == 1.5
    assert shown[("gatewayd_audit_lag_seconds",)] == 0.25


def test_the_audit():
    shown = found()
    assert shown[("gatewayd_audit_records_total",)] == 10
    assert shown[("gatewayd_audit_dropped_total",)] == 10
    assert shown[("gatewayd_audit_full",)] == 1


def test_histograms_count_up_to_everything():
    shown = found()
    name = "gatewayd_request_duration_seconds"
    assert shown[f"{name}_bucket", ("le", "0.3"), ("route", "quotes")] == 0
    assert shown[f"{name}_bucket", ("le", "0.5"), ("route", "quotes")] == 2
    assert shown[f"{name}_bucket", ("le", "+Inf"), ("route", "quotes")] == 2
    assert shown[f"{name}_count", ("route", "quotes")] == 2
    assert shown[f"{name}_sum", ("route", "quotes")] == 1.0
    assert shown["gatewayd_upstream_duration_seconds_sum", ("route", "quotes")] == 0.5
    assert shown["gatewayd_own_duration_seconds_sum", ("route", "quotes")] == 0.5
    assert shown["gatewayd_own_duration_seconds_count", ("route", OTHER)] == 2


def test_each_bucket_shows_the_newest_exemplar_there_is_of_it(monkeypatch):
    memory = memoryview(bytearray(metrics.size_bytes(2)))
    clock = iter(range(100, 200))
    monkeypatch.setattr("gatewayd.observe.exemplars.time.time", lambda: float(next(clock)))
    for number, seconds in ((1, 0.4), (0, 0.45), (1, 3.0)):
        worker = metrics.WorkerMetrics(memory, number)
        worker.record(exchange(1, status=200, request_id=b"%.2f" % seconds), 100 + seconds)
        worker.flush()
    counted = metrics.read(memory, {"quotes": 1}, [0, 1])
    (family,) = (each for each in families(counted) if each.name == "gatewayd_request_duration_seconds")
    assert [(s.labels["le"], s.exemplar.labels, s.exemplar.timestamp) for s in family.samples if s.exemplar] == [
        ("0.5", {"request_id": "0.45"}, 101.0),
        ("3.0", {"request_id": "3.00"}, 102.0),
    ]


def test_nothing_has_more_labels_than_there_are_places():
    """What the code, the configuration or callers make up goes to tables of fixed size, with an `other` each."""
    memory = memoryview(bytearray(metrics.size_bytes(1)))
    worker = metrics.WorkerMetrics(memory, 0)
    for number in range(metrics.ROUTE_ROWS + 50):
        slot = number if number < metrics.ROUTE_ROWS else 0
        verdicts = [(f"policy-{number}", "refused")]
        worker.record(exchange(slot, status=200, code=f"c{number}", reason=f"r{number}", verdicts=verdicts), 100.1)
    worker.flush()
    slots = {OTHER: 0} | {f"route-{slot}": slot for slot in range(1, metrics.ROUTE_ROWS)}
    shown = samples(families(metrics.read(memory, slots, [0])))
    for name, table in (("refusals", metrics.REFUSALS), ("upstream_failures", metrics.FAILURES)):
        labels = [set(each.values()) for each, _ in named(shown, f"gatewayd_{name}_total")]
        assert len(labels) == metrics.TABLES[table]
        assert {"other"} in labels
    assert len(list(named(shown, "gatewayd_policy_verdicts_total"))) == metrics.TABLES[metrics.VERDICTS]
    assert len({each["route"] for each, _ in named(shown, "gatewayd_requests_total")}) == metrics.ROUTE_ROWS
    assert shown["gatewayd_requests_total", ("class", "2xx"), ("route", OTHER)] == 51
