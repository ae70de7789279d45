"""What a real daemon shows, as Prometheus and its parsers take it; what ships in docs asks for nothing else."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from tests.process.test_alerts import ALERTS, RULES
from tests.support.daemon import ROOT, Daemon, proxied
from tests.support.prometheus import Prometheus, needs_prometheus, promtool
from tests.support.upstream import ScriptedUpstream
from tests.wire.certificates import Authority

pytestmark = pytest.mark.process

DASHBOARD = ROOT / "docs/grafana/gatewayd.json"
DOCUMENT = ROOT / "docs/metrics.md"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}


def document(upstream: ScriptedUpstream, authority: Authority, state: Path) -> dict[str, Any]:
    """A daemon with something to show in each family."""
    made = proxied(f"127.0.0.1:{upstream.port}", "127.0.0.1:1")
    made["routes"]["all"]["policies"] = ["fair", "watch", "stored"]
    certificate = authority.issue("gw.test")
    tls = {"certificates": [{"cert": certificate.cert, "key": certificate.key}]}
    return {
        **made,
        "gateway": {"workers": 2, "state_dir": str(state)},
        "audit": {"enabled": True},
        "listeners": {"http": {}, "https": {"tls": tls}},
        "policies": {
            "fair": {"policy": "rate_limit", "rate": "40/h"},
            "watch": {"policy": "rate_limit", "rate": "1/h", "mode": "observe"},
            "stored": {"policy": "cache", "default_ttl": "60s"},
        },
    }


class Reached(Daemon):
    """A daemon whose control listener is where a scraper can reach it."""

    def __init__(self, document: dict[str, Any]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.control = f"127.0.0.1:{sock.getsockname()[1]}"
        super().__init__({**document, "control": {"address": self.control}})

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.control, timeout=20)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    folder = tmp_path_factory.mktemp("metrics")
    with ScriptedUpstream() as upstream, Reached(document(upstream, Authority(folder), folder / "state")) as daemon:
        for number in range(60):
            call(daemon.port(), f"/v1/{number % 20}")
        daemon.wait_for(lambda: daemon.metric("gatewayd_requests_total") >= 60, "all counted")
        yield daemon


def call(port: int, path: str) -> int:
    """The status of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


def page(daemon: Reached) -> str:
    status, body = daemon.ask("GET", "/metrics", **OPENMETRICS)
    assert status == 200
    return body.decode()


def names(daemon: Reached) -> set[str]:
    """Every name that a sample of the page may have, whether there is one now or not."""
    families = openmetrics_families(page(daemon))
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))}


def asked(text: str) -> set[str]:
    """The metrics that an expression, or a file of them, names."""
    return set(re.findall(r"\bgatewayd_\w+", text))


def expressions() -> list[str]:
    """Everything that the dashboard asks."""
    made = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in made["panels"] for target in panel.get("targets", ())]
    return found + [each["expr"] for each in made["annotations"]["list"]]


def filled(expression: str) -> str:
    """An expression with Grafana's variables in it as `All` would have them."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$route", ".*")


def test_both_formats_are_right_and_say_the_same(daemon):
    text = daemon.ask("GET", "/metrics")[1].decode()
    known = {family.name for family in text_families(text)}
    families = {family.name: family for family in openmetrics_families(page(daemon))}
    assert {name.removesuffix("_info") for name in known} == families.keys()
    exemplars = [s.exemplar for family in families.values() for s in family.samples if s.exemplar]
    assert exemplars
    assert all(re.fullmatch("[0-9a-f]{16,}", each.labels["request_id"]) for each in exemplars)


def test_every_family_is_documented_and_every_documented_one_exists(daemon):
    documented = asked(DOCUMENT.read_text())
    found = {name.removesuffix("_bucket") for name in names(daemon) if not name.endswith(("_sum", "_count"))}
    assert (found - documented, documented - found - of_parts()) == (set(), set())


def of_parts() -> set[str]:
    """What parts of the control process show if they are turned on, as their sources name it."""
    families = set()
    for path in (ROOT / "gatewayd/collect").rglob("*.py"):
        text = path.read_text()
        families |= set(re.findall(r'"(gatewayd_[a-z_]+)"', text))
        for prefix in re.findall(r'f"(gatewayd_[a-z_]+)\{', text):
            families |= {prefix + name for name in re.findall(r'\("([a-z_]+)"', text)}
            families |= {prefix + name for name in re.findall(r'^ +"([a-z_]+)",$', text, re.MULTILINE)}
    return families | {f"{name}_total" for name in families}


def test_the_dashboard_and_the_rules_ask_only_for_what_there_is(daemon):
    found = names(daemon) | of_parts()
    for text in (*expressions(), DASHBOARD.read_text(), ALERTS.read_text(), RULES.read_text()):
        assert asked(text) <= found


def test_the_dashboard_shows_all_there_is_to_see_of_traffic(daemon):
    shown = set().union(*map(asked, expressions()))
    left = {name for name in names(daemon) if not name.endswith(("_sum", "_count"))} - shown - of_parts()
    assert left == LEFT_OUT


LEFT_OUT = {
    "gatewayd_access_log_pending_bytes",
    "gatewayd_breaker_opened_total",
    "gatewayd_breaker_state",
    "gatewayd_build_info",
    "gatewayd_cache_entries",
    "gatewayd_pool_open",
    "gatewayd_start_time_seconds",
    "gatewayd_target_ejected",
    "gatewayd_target_in_flight",
    "gatewayd_target_latency_seconds",
    "gatewayd_target_probe_healthy",
    "gatewayd_upstream_attempts_total",
    "gatewayd_worker_up",
}
"""Other panels say the same, or say it better."""


NEVER_HAPPENED = {"gatewayd_connections_refused_total", "gatewayd_upstream_failures_total", "gatewayd_generation"}
"""No connection refused, no exchange failed, no reload: of these there are no series, or nothing to mark."""


def test_panels_lie_side_by_side():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@needs_prometheus
def test_promtool_understands_what_the_dashboard_asks(tmp_path):
    rules = [{"record": f"asked:{number}", "expr": filled(each)} for number, each in enumerate(expressions())]
    path = tmp_path / "asked.yml"
    path.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))


@needs_prometheus
def test_promtool_finds_the_page_well_made(daemon, tmp_path):
    text = daemon.ask("GET", "/metrics")[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@needs_prometheus
def test_a_real_prometheus_takes_it_and_answers_all_that_ships(daemon):
    with Prometheus(daemon.control, (RULES, ALERTS)) as prometheus:
        counted = 'sum(gatewayd_requests_total{route="all"})'
        daemon.wait_for(lambda: prometheus.query(counted), "the first scrape")
        ((_, before),) = prometheus.query(counted)
        assert before >= 60
        port = daemon.port()
        daemon.wait_for(lambda: call(port, "/v1/more") and prometheus.query(counted)[0][1] > before, "the next")
        assert prometheus.query("up") == [({"__name__": "up", "instance": daemon.control, "job": "gatewayd"}, 1.0)]
        exemplars = prometheus.exemplars("gatewayd_request_duration_seconds_bucket")
        assert {"request_id"} in [each["labels"].keys() for each in exemplars]
        daemon.wait_for(lambda: prometheus.query("gatewayd:process_cpu:rate5m"), "recording rules")
        empty = [expression for expression in expressions() if not prometheus.query(filled(expression))]
        assert set().union(*map(asked, empty)) - of_parts() <= NEVER_HAPPENED
        groups = prometheus.ask("rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
