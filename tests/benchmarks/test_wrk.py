"""wrk's command line and what it prints."""

from __future__ import annotations

import pytest

from benchmarks import wrk
from benchmarks.generator import GeneratorError, Plan

PRINTED = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 2 connections
outcome {"requests":500,"microseconds":2000000,"bytes":9,\
"errors":{"status":2,"connect":0,"read":1,"write":0,"timeout":0},\
"latency_us":{"p50_ms":1500,"p90_ms":2000,"p99_ms":2500,"p999_ms":3000,"max_ms":4000}}
"""


def test_its_outcome_is_read():
    found = wrk.parse(PRINTED)
    assert (found.requests, found.requests_per_second) == (500, 250.0)
    assert found.latency["p99_ms"] == 2.5
    assert (found.errors, found.failed) == ({"status": 2, "read": 1}, 3)


def test_no_outcome_is_an_error_with_its_words():
    with pytest.raises(GeneratorError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_its_command_line():
    plan = Plan("http://h/", connections=3, duration=2.0, headers=("A: b",), method="POST", body_size=7)
    argv = wrk.command(plan, threads=8)
    assert argv[1:4] == ["-t3", "-c3", "-d2s"]
    assert argv[argv.index("-H") + 1] == "A: b"
    assert argv[-4:] == ["http://h/", "--", "POST", "7"]


@pytest.mark.process
@pytest.mark.skipif(not wrk.installed(), reason="wrk is not installed")
def test_it_posts_and_counts(server):
    found = wrk.run(Plan(f"{server.url}/", connections=2, duration=1.0, method="POST", body_size=4096))
    assert found.requests > 10
    assert found.failed == 0
    assert set(server.bodies) == {4096}
    failing = wrk.run(Plan(f"{server.url}/missing", connections=2, duration=1.0))
    assert failing.failed == failing.requests
