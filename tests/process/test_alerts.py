"""The alerts that ship in docs/prometheus: each fires when it should and not before, by promtool's own reckoning."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tests.support.prometheus import needs_prometheus, promtool

pytestmark = [pytest.mark.process, needs_prometheus]

FOLDER = ROOT / "docs/prometheus"
RULES, ALERTS = FOLDER / "rules.yml", FOLDER / "alerts.yml"
DAY = 86_400
CERTIFICATE = "gatewayd_certificate_expires_timestamp_seconds{listener='https',certificate='a.pem'}"
AVAILABLE = "gatewayd_target_available{worker='%d',upstream='up',target='%s',place='%s'}"
VERDICTS = "gatewayd_policy_verdicts_total{policy='fair',type='rate_limit',mode='enforce',verdict='%s'}"
REQUESTS = "gatewayd_requests_total{route='quotes',class='%s'}"

# Each: series (a value a minute from 0 on; `a+bxn` as promtool has it), the minute to look at, and what fires then.
CASES = [
    ({"up": "1x5 0x10"}, 10, {"GatewaydDown"}),
    ({"up": "1x5 0 1x10"}, 10, set()),
    ({"gatewayd_ready": "1x5 0x10"}, 10, {"GatewaydNotReady"}),
    ({"gatewayd_ready": "1x5 0 1x10"}, 8, set()),
    ({"gatewayd_worker_restarts_total{worker='3'}": "4x5 5x20"}, 10, {"GatewaydWorkerRestarts"}),
    ({"gatewayd_worker_restarts_total{worker='3'}": "4x5 5x20"}, 20, set()),
    ({"gatewayd_control_restarts_total": "0x5 1x20"}, 10, {"GatewaydControlRestarts"}),
    ({"gatewayd_control_restarts_total": "0x5 1x20"}, 20, set()),
    ({"gatewayd_reloads_total{outcome='failed'}": "0x5 1x20"}, 10, {"GatewaydReloadFailed"}),
    ({"gatewayd_reloads_total{outcome='succeeded'}": "0+1x20"}, 10, set()),
    ({REQUESTS % "2xx": "0+950x90", REQUESTS % "5xx": "0+50x90"}, 80, {"GatewaydErrorsFast", "GatewaydErrorsSlow"}),
    ({REQUESTS % "2xx": "0+992x400", REQUESTS % "5xx": "0+8x400"}, 390, {"GatewaydErrorsSlow"}),
    ({REQUESTS % "2xx": "0+995x400", REQUESTS % "5xx": "0+5x400"}, 390, set()),
    ({REQUESTS % "2xx": "0+1000x90", REQUESTS % "4xx": "0+900x90", REQUESTS % "5xx": "0x90"}, 80, set()),
    ({REQUESTS % "2xx": "0+1000x400", REQUESTS % "5xx": "0x380 50x20"}, 382, set()),  # a minute of errors
    (
        {
            "gatewayd_request_duration_seconds_bucket{route='quotes',le='1.0'}": "0+90x30",
            "gatewayd_request_duration_seconds_bucket{route='quotes',le='2.0'}": "0+100x30",
            "gatewayd_request_duration_seconds_bucket{route='quotes',le='+Inf'}": "0+100x30",
        },
        25,
        {"GatewaydSlow"},
    ),
    (
        {
            "gatewayd_request_duration_seconds_bucket{route='quotes',le='1.0'}": "0+100x30",
            "gatewayd_request_duration_seconds_bucket{route='quotes',le='+Inf'}": "0+100x30",
        },
        25,
        set(),
    ),
    (
        {
            "gatewayd_own_duration_seconds_bucket{route='quotes',le='0.01'}": "0+40x30",
            "gatewayd_own_duration_seconds_bucket{route='quotes',le='0.02'}": "0+100x30",
            "gatewayd_own_duration_seconds_bucket{route='quotes',le='+Inf'}": "0+100x30",
        },
        15,
        {"GatewaydOverloaded"},
    ),
    (
        {
            "gatewayd_own_duration_seconds_bucket{route='quotes',le='0.01'}": "0+60x30",
            "gatewayd_own_duration_seconds_bucket{route='quotes',le='+Inf'}": "0+100x30",
        },
        15,
        set(),
    ),
    ({"gatewayd_process_cpu_seconds_total{process='worker 1'}": "0+58x30"}, 20, {"GatewaydWorkerBusy"}),
    (
        {
            "gatewayd_process_cpu_seconds_total{process='worker 1'}": "0+50x30",
            "gatewayd_process_cpu_seconds_total{process='control'}": "0+58x30",
        },
        20,
        set(),
    ),
    ({"gatewayd_connections_refused_total{reason='connections'}": "0+5x30"}, 15, {"GatewaydConnectionsRefused"}),
    ({"gatewayd_connections_refused_total{reason='connections'}": "0x5 5x30"}, 8, set()),
    (
        {
            "gatewayd_process_open_fds{process='worker 1'}": "950x20",
            "gatewayd_process_max_fds{process='worker 1'}": "1000x20",
        },
        10,
        {"GatewaydFilesRunOut"},
    ),
    (
        {
            "gatewayd_process_open_fds{process='worker 1'}": "850x20",
            "gatewayd_process_max_fds{process='worker 1'}": "1000x20",
        },
        10,
        set(),
    ),
    ({CERTIFICATE: f"{13 * DAY}x5"}, 2, {"GatewaydCertificateExpires"}),
    ({CERTIFICATE: f"{DAY}x5"}, 2, {"GatewaydCertificateExpires", "GatewaydCertificateExpiresSoon"}),
    ({CERTIFICATE: f"{15 * DAY}x5"}, 2, set()),
    (
        {AVAILABLE % (0, "a:80", "a"): "1x5 0x30", AVAILABLE % (1, "a:80", "a"): "1x5 0x30"},
        10,
        {"GatewaydUpstreamDown"},
    ),
    (
        {AVAILABLE % (0, "a:80", "a"): "1x5 0x30", AVAILABLE % (0, "b:80", "b"): "1x35"},
        20,
        {"GatewaydTargetOut"},
    ),
    (
        {AVAILABLE % (0, "a:80", "a"): "1x5 0x30", AVAILABLE % (0, "b:80", "b"): "1x35"},
        10,
        set(),
    ),
    ({AVAILABLE % (0, "a:80", "a"): "0x30", AVAILABLE % (1, "a:80", "a"): "1x30"}, 20, set()),
    ({"gatewayd_breaker_state{worker='0',upstream='up',state='open'}": "0x5 1x9"}, 9, {"GatewaydBreakerOpen"}),
    ({"gatewayd_breaker_state{worker='0',upstream='up',state='half_open'}": "1x9"}, 9, set()),
    ({"gatewayd_pool_waiting{upstream='up',target='a:80'}": "3x20"}, 10, {"GatewaydPoolQueue"}),
    ({"gatewayd_pool_waiting{upstream='up',target='a:80'}": "3x3 0 3x20"}, 7, set()),
    ({VERDICTS % "failed": "0+1x20"}, 15, {"GatewaydPolicyFails"}),
    ({VERDICTS % "alone": "0+1x20"}, 15, {"GatewaydLimitUncounted"}),
    ({VERDICTS % "refused": "0+1000x20"}, 15, set()),
    (
        {
            "gatewayd_limit_keys{policy='fair',type='quota'}": "120000x20",
            "gatewayd_limit_keys_capacity{policy='fair',type='quota'}": "131072x20",
        },
        15,
        {"GatewaydLimitKeysRunOut"},
    ),
    (
        {
            "gatewayd_limit_keys{policy='fair',type='quota'}": "100000x20",
            "gatewayd_limit_keys_capacity{policy='fair',type='quota'}": "131072x20",
        },
        15,
        set(),
    ),
    ({"gatewayd_access_log_lag_seconds": "40x9"}, 5, {"GatewaydAccessLogLags"}),
    ({"gatewayd_access_log_lag_seconds": "20x9"}, 5, set()),
    ({"gatewayd_access_log_dropped_total": "0x3 7x9"}, 5, {"GatewaydAccessLogDropped"}),
    ({"gatewayd_access_log_dropped_total": "7x30"}, 20, set()),
    ({"gatewayd_audit_full": "0x3 1x9"}, 5, {"GatewaydAuditFull"}),
    ({"gatewayd_audit_full": "0x9"}, 5, set()),
    ({"gatewayd_audit_lag_seconds": "6x9"}, 5, {"GatewaydAuditLags"}),
    ({"gatewayd_audit_lag_seconds": "0.1x9"}, 5, set()),
    ({"gatewayd_audit_dropped_total": "0x3 7x9"}, 5, {"GatewaydAuditDropped"}),
    ({"gatewayd_audit_dropped_total": "7x30"}, 20, set()),
    ({"gatewayd_collector_broken_chains": "1x9"}, 5, {"GatewaydChainBroken"}),
    ({"gatewayd_audit_broken_chains": "1x9", "gatewayd_collector_broken_chains": "0x9"}, 5, {"GatewaydChainBroken"}),
    ({"gatewayd_audit_broken_chains": "0x9", "gatewayd_collector_broken_chains": "0x9"}, 5, set()),
    ({"gatewayd_collector_records_missing_total": "0x3 7x9"}, 5, {"GatewaydRecordsMissing"}),
    ({"gatewayd_collector_records_missing_total": "7x30"}, 20, set()),
    ({"gatewayd_audit_rounds_failed_total": "0x3 1x90"}, 30, {"GatewaydAuditRoundsFail"}),
    ({"gatewayd_audit_rounds_failed_total": "0x3 1x90"}, 80, set()),
    ({"gatewayd_collector_lag_seconds": "400x20"}, 15, {"GatewaydCollectorLags"}),
    ({"gatewayd_collector_lag_seconds": "200x20"}, 15, set()),
    ({"gatewayd_sink_lag_seconds{sink='warehouse'}": "700x20"}, 15, {"GatewaydSinkLags"}),
    ({"gatewayd_sink_lag_seconds{sink='warehouse'}": "500x20"}, 15, set()),
    ({"gatewayd_trace_lag_seconds": "400x20"}, 15, {"GatewaydTracesLag"}),
    ({"gatewayd_trace_lag_seconds": "200x20"}, 15, set()),
    ({"gatewayd_alerts_open{detector='enumeration',severity='critical'}": "2x9"}, 5, {"GatewaydAnomaly"}),
    ({"gatewayd_alerts_open{detector='enumeration',severity='warning'}": "2x9"}, 5, set()),
    ({"gatewayd_alerts_behind_seconds": "1000x20"}, 15, {"GatewaydAnomaliesBlind"}),
    ({"gatewayd_alerts_behind_seconds": "60x20"}, 15, set()),
    ({"gatewayd_webhook_given_up_total{webhook='pager'}": "0x3 1x9"}, 5, {"GatewaydWebhookGivesUp"}),
    ({"gatewayd_webhook_given_up_total{webhook='pager'}": "1x30"}, 20, set()),
]  # fmt: skip


def series_of(name: str) -> str:
    """With the labels that a scrape adds."""
    metric, _, labels = name.replace("'", '"').rstrip("}").partition("{")
    return f'{metric}{{job="gatewayd",instance="gw:9901"{"," + labels if labels else ""}}}'


def case(series: dict[str, str], minute: int, expected: set[str]) -> dict[str, object]:
    """As promtool wants it: which alerts fire at that minute, and no others."""
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "interval": "1m",
        "input_series": [{"series": series_of(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": firing, "eval_time": f"{minute}m", "exp_samples": samples}],
    }


def judge(folder: Path, tests: list[dict[str, object]]) -> None:
    """Have promtool run `tests` against the rules that ship."""
    path = folder / "tests.yml"
    rules = [str(RULES), str(ALERTS)]
    path.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(path))


def test_promtool_finds_no_fault():
    assert "SUCCESS" in promtool("check", "rules", str(RULES), str(ALERTS))


def test_each_fires_when_it_should_and_not_before(tmp_path):
    judge(tmp_path, [case(*each) for each in CASES])


def test_none_is_left_out():
    names = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    assert names == set().union(*(expected for _, _, expected in CASES))


def test_a_wrong_expectation_is_noticed(tmp_path):
    with pytest.raises(AssertionError, match="FAILED"):
        judge(tmp_path, [case({"gatewayd_ready": "1x5 0x10"}, 10, set())])


def test_what_people_read(tmp_path):
    series, minute, _ = next(each for each in CASES if each[2] == {"GatewaydSlow"})
    labels = {"job": "gatewayd", "route": "quotes", "severity": "ticket"}
    said = {
        "summary": "Route quotes: the 99th percentile is 1.9s",
        "description": "Compare it with the upstream's latency on the dashboard; exemplars name such exchanges.",
    }
    alert = {"eval_time": f"{minute}m", "alertname": "GatewaydSlow"}
    alert["exp_alerts"] = [{"exp_labels": labels, "exp_annotations": said}]
    judge(tmp_path, [{**case(series, minute, {"GatewaydSlow"}), "alert_rule_test": [alert]}])
