"""`gatewayd replay`: what is said of recorded calls, and with which exit code."""

from __future__ import annotations

import json
import sys
import time

import pytest
import tomli_w

from gatewayd.audit.record import Operation, Personal
from gatewayd.cli import main
from tests.support.records import Segment, recorded_call

NOW = time.time_ns()
HOUR = 3600 * 10**9


@pytest.fixture
def state(tmp_path):
    """Ten calls of each of the last three hours, the last ones refused."""
    folder = tmp_path / "state"
    segment = Segment(folder).opened(NOW - 4 * HOUR)
    for hour in (3, 2, 1):
        calls = []
        for number in range(10):
            refused = {"code": "ip_restricted", "verdicts": [("inside", "refused")], "status": 403} if hour == 1 else {}
            at = NOW - hour * HOUR + HOUR // 2 + number
            request_id = f"id-{hour}-{number}".encode()
            operation = Operation("a", "", f"/a{number}" if hour == 2 else "/a", [])
            calls.append(
                recorded_call(operation, at=at, request_id=request_id, personal=Personal("192.0.2.1"), **refused)
            )
        segment.append(calls)
    segment.written()
    return folder


@pytest.fixture
def replay(tmp_path, state, monkeypatch, capsys):
    """Runs `gatewayd replay` with these words and a candidate with `policies`: exit code and what it printed."""

    def run(*words, policies=(), path="/a", **more):
        inside = {"policy": "ip_restriction", "deny": ["192.0.2.0/24"]}
        document = {
            "gateway": {"state_dir": str(state)},
            "listeners": {"http": {"address": "127.0.0.1:0"}},
            "policies": {"inside": inside},
            "routes": {"a": {"path": path, "reply": {}, "policies": [*policies]}},
            **more,
        }
        conf = tmp_path / "candidate.toml"
        conf.write_text(tomli_w.dumps(document))
        monkeypatch.setattr(sys, "argv", ["gatewayd", "replay", "--config", str(conf), *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr()

    return run


def test_nothing_would_change(replay):
    code, printed = replay("--last", "90m", policies=["inside"], path="/{any*}")
    assert (code, printed.err) == (0, "")
    assert printed.out == "10 calls: 10 as they were, 0 not, 0 undecided\n"


def test_something_would_change(replay):
    code, printed = replay("--last", "90m")
    assert code == 1
    assert printed.out.startswith("10 calls: 0 as they were, 10 not, 0 undecided\n")
    (row,) = [line.split() for line in printed.out.splitlines() if "id-1-0" in line]
    assert " ".join(row) == "10 refused by inside ip_restricted let through a - id-1-0 id-1-1 id-1-2"


def test_as_json(replay):
    code, printed = replay("--json", "--last", "90m")
    found = json.loads(printed.out)
    assert (code, found["calls"], found["changed"]) == (1, 10, 10)
    assert found["changes"] == [
        {
            "before": "refused by inside ip_restricted",
            "after": "let through",
            "route": "a",
            "consumer": "",
            "calls": 10,
            "request_ids": ["id-1-0", "id-1-1", "id-1-2"],
        }
    ]


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        ([], 30),
        (["--last", "2h"], 20),
        (["--from", "2020-01-01", "--to", "2020-01-02"], 0),
        (["--from", "2020-01-01"], 30),
        (["--to", "2020-01-02", "--last", ""], 0),
    ],
)
def test_the_time_that_is_looked_at(replay, words, calls):
    _, printed = replay("--json", *words)
    assert json.loads(printed.out)["calls"] == calls


@pytest.mark.parametrize(
    "words",
    [
        ["--last", "a day"],
        ["--last", "1h", "--from", "2020-01-01"],
        ["--from", "yesterday"],
        ["--from", "2020-01-02", "--to", "2020-01-01"],
        ["--limit", "0"],
    ],
)
def test_wrong_usage(replay, words):
    code, printed = replay(*words)
    assert (code, printed.out) == (2, "")


def test_kinds_of_changes_are_shown_up_to_a_limit(replay):
    routes = {"b": {"path": "/b", "reply": {}, "policies": []}}
    everything = replay("--all", routes=routes)[1].out
    assert everything.count("missed route_not_found") == 2
    first = replay("--limit", "1", routes=routes)[1].out
    assert first.count("missed route_not_found") == 1
    assert "and 1 other kinds of changes; --all shows them" in first
    assert len(json.loads(replay("--json", "--limit", "1", routes=routes)[1].out)["changes"]) == 1


def test_what_is_not_decided_is_told(replay):
    code, printed = replay("--last", "90m", path="/a", routes={"a": {"path": "/a", "reply": {}, "headers": {"x": "1"}}})
    assert code == 0
    (row,) = [line.split() for line in printed.out.splitlines() if "id-1-0" in line]
    assert " ".join(row).startswith("10 headers or query, which decide whether a is meant id-1-0")


def test_a_candidate_that_cannot_be_used(replay):
    code, printed = replay(policies=["nothing"])
    assert code == 2
    assert "nothing" in printed.err


def test_records_elsewhere_and_none_at_all(replay, tmp_path, state):
    elsewhere = {"state_dir": str(tmp_path / "empty")}
    code, printed = replay(gateway=elsewhere)
    assert (code, printed.out) == (1, "")
    assert "no calls are on record" in printed.err
    assert not (tmp_path / "empty").exists()
    assert replay("--state", str(state), "--last", "90m", gateway=elsewhere)[1].out.startswith("10 calls")


def test_what_cannot_be_read_is_told(replay, state):
    (path,) = (state / "audit" / "calls-0").glob("*.seg")
    data = bytearray(path.read_bytes())
    data[-400] ^= 1
    path.write_bytes(data)
    _, printed = replay("--last", "90m", policies=["inside"])
    assert "not read: calls-0, segment 1, record" in printed.out
