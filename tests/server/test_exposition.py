"""The metrics page, read back by prometheus-client's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Route
from gatewayd.observe import metrics
from gatewayd.server.exposition import page
from gatewayd.server.shared_memory import OTHER

TARGET = {
    "address": "localhost:9000",
    "place": "127.0.0.1:9000",
    "available": True,
    "in_flight": 2,
    "requests": 7,
    "failures": 1,
    "ejections": 3,
}
OTHER_TARGET = {**TARGET, "place": "[::1]:9000", "requests": 9}
BREAKER = {"state": "half_open", "opened": 2}
UPSTREAMS = {"policies": {"targets": [TARGET, OTHER_TARGET], "breaker": BREAKER}}
CERTIFICATES = {"https": {"/etc/a.pem": 1.9e9}}
STATUS = {
    "version": "1.2.3",
    "ready": True,
    "generation": 4,
    "started": 1_800_000_000.0,
    "reloads": {"succeeded": 3, "failed": 1},
    "workers": [
        {
            "index": 0,
            "state": "serving",
            "restarts": 2,
            "edge": {"upstreams": UPSTREAMS, "certificates": CERTIFICATES},
        },
        {"index": 1, "state": "waiting", "restarts": 0, "edge": None},
    ],
}


def exchange(slot, **fields):
    ended = Exchange()
    ended.route = Route("quotes", lambda _: None)
    ended.route.slot = slot
    ended.started = 100.0
    for name, value in fields.items():
        setattr(ended, name, value)
    return ended


def samples():
    memory = memoryview(bytearray(metrics.size_bytes(2)))
    for number in (0, 1):
        worker = metrics.WorkerMetrics(memory, number)
        worker.count(metrics.CONNECTIONS_ACCEPTED, 5)
        worker.put(metrics.LOG_LAG_MILLISECONDS, 1500 * number)
        ended = exchange(1, status=200, attempts=2, upstream_seconds=0.25, body_received=10, body_sent=20)
        worker.record(ended, 100.5)
        refused = exchange(0, status=429, code="limited", verdicts=[("partner-cors", "refused")])
        worker.record(refused, 100.0)
        worker.flush()
    slots = {OTHER: 0, "quotes": 1}
    text = page(STATUS, metrics.read(memory, slots, [0, 1])).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_daemon_and_its_workers():
    found = samples()
    assert found["gatewayd_build_info", ("version", "1.2.3")] == 1
    assert found[("gatewayd_ready",)] == 1
    assert found[("gatewayd_generation",)] == 4
    assert found["gatewayd_reloads_total", ("outcome", "failed")] == 1
    assert [found["gatewayd_worker_up", ("worker", number)] for number in "01"] == [1, 0]
    assert found["gatewayd_worker_restarts_total", ("worker", "0")] == 2


def test_targets_as_each_worker_sees_them():
    found = samples()
    labels = (("place", "127.0.0.1:9000"), ("target", "localhost:9000"), ("upstream", "policies"), ("worker", "0"))
    assert found["gatewayd_target_available", *labels] == 1
    assert found["gatewayd_target_in_flight", *labels] == 2
    assert found["gatewayd_target_requests_total", *labels] == 7
    assert found["gatewayd_target_failures_total", *labels] == 1
    assert found["gatewayd_target_ejections_total", *labels] == 3
    assert found["gatewayd_target_requests_total", ("place", "[::1]:9000"), *labels[1:]] == 9


def test_breakers_as_each_worker_sees_them():
    found = samples()
    labels = (("upstream", "policies"), ("worker", "0"))
    assert found["gatewayd_breaker_open", *labels] == 1
    assert found["gatewayd_breaker_opened_total", *labels] == 2


def test_certificates_end():
    found = samples()
    labels = (("certificate", "/etc/a.pem"), ("listener", "https"))
    assert found["gatewayd_certificate_expires_timestamp_seconds", *labels] == 1.9e9


def test_what_all_workers_counted_is_added_up():
    found = samples()
    assert found[("gatewayd_connections_accepted_total",)] == 10
    assert found[("gatewayd_access_log_lag_seconds",)] == 1.5
    assert found["gatewayd_requests_total", ("class", "2xx"), ("route", "quotes")] == 2
    assert found["gatewayd_requests_total", ("class", "4xx"), ("route", OTHER)] == 2
    assert found["gatewayd_upstream_retries_total", ("route", "quotes")] == 2
    assert found["gatewayd_request_body_bytes_total", ("route", "quotes")] == 20
    assert found["gatewayd_reply_body_bytes_total", ("route", "quotes")] == 40
    assert found["gatewayd_refusals_total", ("code", "limited")] == 2
    assert found["gatewayd_policy_verdicts_total", ("policy", "partner-cors"), ("verdict", "refused")] == 2


def test_histograms_count_up_to_everything():
    found = samples()
    name = "gatewayd_request_duration_seconds"
    assert found[f"{name}_bucket", ("le", "0.3"), ("route", "quotes")] == 0
    assert found[f"{name}_bucket", ("le", "0.5"), ("route", "quotes")] == 2
    assert found[f"{name}_bucket", ("le", "+Inf"), ("route", "quotes")] == 2
    assert found[f"{name}_count", ("route", "quotes")] == 2
    assert found[f"{name}_sum", ("route", "quotes")] == 1.0
    assert found["gatewayd_upstream_duration_seconds_sum", ("route", "quotes")] == 0.5
    assert found[("gatewayd_own_duration_seconds_count",)] == 4
