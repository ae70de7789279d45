"""The command line: a small real run, and what stands on standard output."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.generator import GeneratorError
from benchmarks.machine import REPOSITORY
from benchmarks.processes import session_pids
from tests.benchmarks.test_report import START, bare, document


@pytest.mark.process
def test_json_alone_on_standard_output_and_nothing_left_behind():
    argv = [sys.executable, "-m", "benchmarks", "--scenario", "bare", "--peer", "aiohttp", "--quick", "--rounds", "1"]
    with subprocess.Popen(
        [*argv, "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
        start_new_session=True,
    ) as process:
        out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert (found["scenario"], found["rounds"]) == ("bare", 1)
    for figures in (found["gatewayd"], found["peers"]["aiohttp"]):
        assert {"cpu_us_per_request", "requests_per_second", "p99_ms", "rss_mib"} <= figures.keys()
        assert figures["requests"] > 0
        assert figures["failed"] == 0
    ours, theirs = found["peers"]["aiohttp"]["cpu_us_pairs"][0]
    assert found["peers"]["aiohttp"]["cpu_ratio"] == pytest.approx(ours / theirs, abs=0.01)
    assert found["machine"]["command"].endswith("--json -")
    assert session_pids(process.pid) == []


def test_one_scenario_stands_alone_and_several_in_a_list():
    assert json.loads(command.as_json(document(bare())))["scenario"] == "bare"
    assert [one["scenario"] for one in json.loads(command.as_json(document(bare(), START)))["scenarios"]] == [
        "bare",
        "start",
    ]


def test_a_scenario_that_breaks_leaves_the_others_their_results(monkeypatch, tmp_path):
    def breaks(harness, step):
        raise GeneratorError("wrk failed")

    broken = command.Scenario("bare", "breaks", breaks)
    works = command.Scenario("start", "works", lambda harness, step: START)
    monkeypatch.setattr(command, "all_scenarios", lambda rate: {"bare": broken, "start": works})
    done = CliRunner().invoke(command.main, ["--json", str(tmp_path / "found.json")])
    assert done.exit_code == 1
    assert "bare could not be measured: wrk failed" in done.stderr
    assert json.loads((tmp_path / "found.json").read_bytes())["scenario"] == "start"


def test_a_published_run_replaces_the_last(tmp_path):
    (tmp_path / "old.svg").write_text("old")
    command.keep(document(START), {"start": "starting"}, tmp_path)
    assert not (tmp_path / "old.svg").exists()
    assert json.loads((tmp_path / "results.json").read_bytes())["scenarios"] == [START]
    assert (tmp_path / "README.md").read_text().startswith("# The last published run")


@pytest.mark.parametrize("arguments", [["--scenario", "nothing"], ["--peer", "varnish"], ["--rounds", "0"]])
def test_wrong_usage_is_refused(arguments):
    assert CliRunner().invoke(command.main, arguments).exit_code == 2
