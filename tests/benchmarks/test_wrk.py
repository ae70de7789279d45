"""wrk's command line and what it prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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


def test_its_command_line_where_requests_differ():
    plan = Plan("http://h/", connections=5, duration=2.0, asks=(("/a", "X: 1"), ("/b", "")))
    with wrk.asks_of(plan) as asks:
        assert Path(asks).read_text() == "/a\tX: 1\n/b\t\n"
        argv = wrk.command(plan, 2, asks)
        assert (argv[1], argv[-6:]) == ("-t2", ["--", "GET", "0", asks, "2", "1"])
        sticky = wrk.command(replace(plan, sticky=True), 2, asks)
    assert (sticky[1], sticky[-3:]) == ("-t5", [asks, "5", "0"])
    assert not Path(asks).exists()
    with wrk.asks_of(Plan("http://h/")) as asks:
        assert asks == ""


@pytest.mark.process
@pytest.mark.skipif(not wrk.installed(), reason="wrk is not installed")
@pytest.mark.parametrize("sticky", [False, True])
def test_it_asks_for_different_things(server, sticky):
    asks = (("/a", "X-Key: 1"), ("/b", "X-Key: 2"), ("/c", ""))
    found = wrk.run(Plan(f"{server.url}/", connections=3, duration=1.0, asks=asks, sticky=sticky), [0])
    assert found.failed == 0
    assert set(server.asked) == {("/a", "1"), ("/b", "2"), ("/c", "")}


@pytest.mark.process
@pytest.mark.skipif(not wrk.installed(), reason="wrk is not installed")
def test_it_posts_and_counts(server):
    found = wrk.run(Plan(f"{server.url}/", connections=2, duration=1.0, method="POST", body_size=4096))
    assert found.requests > 10
    assert found.failed == 0
    assert set(server.bodies) == {4096}
    failing = wrk.run(Plan(f"{server.url}/missing", connections=2, duration=1.0))
    assert failing.failed == failing.requests
