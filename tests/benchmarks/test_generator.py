"""The generator as people use it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks import generator
from benchmarks.generator import Plan
from benchmarks.processes import free_port


def test_a_request_as_it_goes_over_the_wire():
    plan = Plan("http://api.example:8080/a?b=c", method="POST", headers=("X-A: 1",), body_size=3)
    assert plan.requests() == [
        "POST /a?b=c HTTP/1.1\r\nHost: api.example:8080\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nxxx"
    ]


def test_a_host_of_ones_own_stays_alone():
    assert "api.example" not in Plan("http://api.example/", headers=("host: other",)).requests()[0]


def test_requests_that_differ():
    plan = Plan("http://h/own", asks=(("/a", "X: 1"), ("/b?c", "")))
    assert plan.requests() == [
        "GET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        "GET /b?c HTTP/1.1\r\nHost: h\r\n\r\n",
    ]


@pytest.mark.process
@pytest.mark.parametrize("sticky", [False, True])
def test_different_things_are_asked_in_turn(server, sticky):
    asks = tuple((f"/{number}", f"X-Key: {number}") for number in range(4))
    found = generator.run(Plan(f"{server.url}/", 4, 0.3, processes=2, asks=asks, sticky=sticky))
    assert found.failed == 0
    assert set(server.asked) == {(f"/{number}", str(number)) for number in range(4)}


def test_connections_are_dealt_out_to_processes():
    plans = Plan("https://api.example/", connections=10, processes=3).orders()
    assert [order["plan"]["connections"] for order in plans] == [4, 3, 3]
    assert {(order["plan"]["port"], order["plan"]["tls"]) for order in plans} == {(443, True)}


def run(*arguments: str) -> tuple[int, dict]:
    """Exit status and JSON of the command line."""
    done = CliRunner().invoke(generator.main, [*arguments, "--json"])
    return done.exit_code, json.loads(done.stdout) if done.stdout else {}


@pytest.mark.process
def test_open_loop_sends_what_was_asked(server):
    status, found = run(f"{server.url}/", "--rate", "200", "-d", "0.5", "-c", "8", "-p", "2")
    assert status == 0
    assert found["requests"] == server.requests == 100
    assert (found["failed"], found["errors"]) == (0, {})
    assert 0 < found["latency"]["p50_ms"] <= found["latency"]["p99_ms"] <= found["latency"]["max_ms"]


@pytest.mark.process
def test_a_stalling_server_is_seen_as_its_callers_would(server):
    """One reply of 0.5 s at 100/s on one connection: many requests were due meanwhile, and all of them waited."""
    status, found = run(f"{server.url}/stall", "--rate", "100", "-d", "1", "-c", "1")
    assert (status, found["requests"]) == (0, 100)
    assert found["latency"]["p90_ms"] > 300


@pytest.mark.process
def test_closed_loop_posts_bodies(server):
    status, found = run(f"{server.url}/", "-d", "0.3", "-c", "2", "-X", "post", "--body-size", "70000")
    assert status == 0
    assert found["requests"] > 2
    assert set(server.bodies) == {70_000}


@pytest.mark.process
def test_failures_are_counted_and_change_the_exit_status(server):
    status, found = run(f"{server.url}/missing", "--rate", "50", "-d", "0.2", "-c", "2")
    assert status == 1
    assert found["errors"] == {"404": found["requests"]}


@pytest.mark.process
def test_connections_that_the_server_closes_are_opened_again(server):
    status, found = run(f"{server.url}/close", "--rate", "50", "-d", "0.3", "-c", "2")
    assert (status, found["requests"], found["failed"]) == (0, 15, 0)
    assert found["reconnects"] >= 13


@pytest.mark.process
def test_a_port_without_a_server_is_said_so():
    done = CliRunner().invoke(generator.main, [f"http://127.0.0.1:{free_port()}/", "-d", "1"])
    assert done.exit_code == 1
    assert "cannot connect" in done.stderr


def test_the_table_is_for_people(server):
    done = CliRunner().invoke(generator.main, [f"{server.url}/", "--rate", "50", "-d", "0.1", "-c", "2"])
    assert "p999" in done.stdout
    assert "generator late" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["ftp://x/"], ["/x"], ["http://x/", "-p", "3", "-c", "2"], ["http://x/", "-c", "0"]]
)
def test_wrong_usage_is_refused(arguments):
    assert CliRunner().invoke(generator.main, arguments).exit_code == 2
