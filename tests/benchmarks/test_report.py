"""Tables, Markdown and pictures of results."""

from __future__ import annotations

import importlib.util
import io

import pytest
from rich.console import Console

from benchmarks import plots, report
from benchmarks.figures import Comparison, check, result
from tests.benchmarks.test_figures import a_round


def bare() -> dict:
    """A small result of a comparison."""
    comparison = Comparison("gatewayd", {"nginx": [(a_round(30), a_round(20)), (a_round(36), a_round(20))]})
    more = {"traffic": "GET /", "generator": "wrk", "upstream": "nginx", "layout": "core 0", "workers": 1}
    return result("bare", comparison, 2, seconds_per_round=1, checks=[check("cpu_ratio", 1.65, 1.5)], **more)


def document(*results: dict) -> dict:
    """A whole run."""
    machine = {
        "date": "2026-01-01 00:00 UTC",
        "command": "./scripts/bench",
        "cpu": "a CPU",
        "cores": 2,
        "threads_per_core": 1,
        "memory_gib": 4.0,
        "kernel": "6.1",
        "load_average_at_start": 0.1,
        "versions": {"python": "3.11"},
    }
    return {"machine": machine, "skipped": {"caddy": "not there\nmore"}, "broken": {}, "scenarios": list(results)}


def test_the_page_has_machine_figures_bars_and_what_was_skipped():
    page = report.markdown(document(bare()), {"bare": "small replies"}, ["cpu.svg"])
    assert "## bare: small replies" in page
    assert "| nginx | 20.0 (20.0–20.0) | 1,000 |" in page
    assert "1.65 (1.50–1.80)" in page
    assert "NOT MET: cpu_ratio: 1.65 (at most 1.5)" in page
    assert "skipped: caddy (not there)" in page
    assert "a CPU, 2 cores, 4.0 GiB" in page
    assert "![cpu](cpu.svg)" in page


def test_the_terminal_shows_the_same():
    console = Console(file=io.StringIO(), width=200)
    report.show(console, "small replies", bare())
    shown = console.file.getvalue()
    assert "1.65 (1.50–1.80)" in shown
    assert "NOT MET" in shown


def test_figures_that_are_missing_are_dashes():
    assert report.number(None) == "-"
    assert report.with_spread({"x": None, "x_spread": None}, "x") == "-"


START = {
    "scenario": "start",
    "rounds": 2,
    "workers": 2,
    "gatewayd": {"start_s": 0.5, "start_s_spread": [0.4, 0.6]},
    "peers": {"nginx": {"start_s": 0.1, "start_s_spread": [0.1, 0.1]}},
    "checks": [],
    "remarks": ["a remark"],
}


def test_starts_have_a_table_of_their_own():
    page = report.markdown(document(START), {"start": "starting"})
    assert "| gatewayd | 0.500 (0.400–0.600) |" in page
    assert "- note: a remark" in page


def test_idle_connections_have_a_second_table():
    held = {
        "open": 8000,
        "rss_before_mib": 30,
        "rss_growth_mib": 18,
        "kib_per_connection": 2.25,
        "open_afterwards": 7999,
    }
    page = report.markdown(document({**bare(), "scenario": "idle", "idle": {"gatewayd": held}}), {"idle": "idle"})
    assert "| gatewayd | 8,000 | 30.0 | 18.0 | 2.25 | 7,999 |" in page


def test_slow_connections_have_a_table():
    readers = {"readers_left": 100, "worker_growth_mib": 20.0, "disk_mib": 0.0, "upstream_sent_mib": 500.0}
    load = {"p99_ms": 2.0, "failed": 1}
    one = {
        "slow_readers": {**readers, "upstream_sent_later_mib": 0.5},
        "slow_neighbours": {"beside": load, "without": load, "p99_ratio": 1.0, "p99_ratio_spread": [1, 1]},
    }
    page = report.markdown(document({**START, "scenario": "memory", "gatewayd": one, "peers": {}}), {"memory": "slow"})
    assert "| gatewayd | 100 | 20.0 | 0.0 | 500.0 | 0.5 | 2.00 | 2.00 | 1.00 (1.00–1.00) | 2 |" in page


@pytest.mark.skipif(not plots.available(), reason="matplotlib is not installed")
def test_pictures_are_drawn_of_what_there_is(tmp_path):
    curve = bare()
    curve["scenario"] = "openloop"
    for found in (curve["gatewayd"], curve["peers"]["nginx"]):
        found["latency_curve"] = [(50.0, 1.0), (99.0, 2.0), (100.0, 30.0)]
    assert plots.draw(document(bare(), curve), tmp_path) == ["cpu.svg", "latency.svg"]
    assert (tmp_path / "cpu.svg").read_text().rstrip().endswith("</svg>")
    assert plots.draw(document(START), tmp_path) == []


def test_without_matplotlib_nothing_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plots.draw(document(bare()), tmp_path) == []
