"""A candidate judges calls one by one: on their clock, by what is on record, and by nothing else."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gatewayd.audit.masking import pseudonyms
from gatewayd.audit.record import Call, Caller, Captured, Operation, Personal, Tls
from gatewayd.config.load import decode
from gatewayd.core.policy import Hooks, Undecided
from gatewayd.core.problem import problem
from gatewayd.errors import ConfigError
from gatewayd.gateway.candidate import ANSWERED, LET_THROUGH, MISSED, REFUSED, Candidate, Outcome, recorded_outcome
from gatewayd.gateway.unrecorded import NotOnRecord
from tests.support.policies import install, policy
from tests.support.records import recorded_call

SECOND = 10**9
START = 1_800_000_000 * SECOND
HASHED = pseudonyms(b"k" * 32)
PASSED = Outcome(LET_THROUGH, "a")
HASH = "hmac-sha256:" + "ab" * 32


def document(*policies: dict[str, Any], path: str = "/a", **more: Any) -> dict[str, Any]:
    """A route `a` with these policies, called p0, p1 …"""
    named = {f"p{number}": each for number, each in enumerate(policies)}
    made = {
        "listeners": {"http": {"address": "127.0.0.1:0"}},
        "policies": named,
        "routes": {"a": {"path": path, "reply": {}, "policies": [*named]}},
    }
    return {**made, **more}


def call(at: float = 0, *values: bytes, path: str = "/a", client: str = "192.0.2.1", **more: Any) -> Call:
    """A call `at` seconds after the start."""
    personal = Personal(client, values=[HASHED(value) for value in values], captured=more.pop("captured", None))
    more.setdefault("personal", personal)
    return recorded_call(Operation("a", "", path, []), at=START + round(at * SECOND), **more)


def judged(found: dict[str, Any], *calls: Call) -> list[Any]:
    """What becomes of them, one after the other: outcomes, or what is not on record."""
    candidate = Candidate(decode(found), START, HASHED)
    said: list[Any] = []
    try:
        for each in calls:
            try:
                said.append(candidate.judge(each))
            except NotOnRecord as unknown:
                said.append(unknown.what)
    finally:
        candidate.close()
    return said


def refused(by: str, code: str) -> Outcome:
    return Outcome(REFUSED, "a", by, code)


def test_limits_go_by_the_time_of_the_calls():
    found = document({"policy": "rate_limit", "rate": "2/s"})
    limited = refused("p0", "rate_limit_exceeded")
    calls = [call(0), call(0.01), call(0.02), call(0.6), call(0.61), call(3600)]
    assert judged(found, *calls) == [PASSED, PASSED, limited, PASSED, limited, PASSED]


def test_a_clock_never_goes_back():
    found = document({"policy": "rate_limit", "rate": "1/m"})
    assert judged(found, call(60), call(0), call(119), call(120)) == [
        PASSED, refused("p0", "rate_limit_exceeded"), refused("p0", "rate_limit_exceeded"), PASSED,
    ]  # fmt: skip


def test_many_addresses_are_told_apart():
    """Tables are as large as those that serve, or strangers would meet each other."""
    found = document({"policy": "rate_limit", "rate": "1/h"})
    calls = [call(each / 1000, client=f"198.51.{each // 256}.{each % 256}") for each in range(400)]
    outcomes = judged(found, *calls, *calls)
    assert outcomes[:400].count(PASSED) >= 385  # of 65,536 rows that strangers share, few are met twice
    assert PASSED not in outcomes[400:]


def test_quotas_go_by_the_calendar_of_the_calls():
    found = document({"policy": "quota", "limit": 1, "per": "day", "key": "address"})
    exceeded = refused("p0", "quota_exceeded")
    assert judged(found, call(0), call(10), call(86_400), call(86_401)) == [PASSED, exceeded, PASSED, exceeded]


def test_calls_are_under_way_as_long_as_they_were():
    found = document({"policy": "concurrency_limit", "limit": 1})
    long = call(0, total=2_000_000)
    assert judged(found, long, call(1), call(1.5), call(2.1)) == [
        PASSED, refused("p0", "concurrency_limit_exceeded"), refused("p0", "concurrency_limit_exceeded"), PASSED,
    ]  # fmt: skip


def test_what_failed_is_given_back_where_only_success_is_charged():
    found = document({"policy": "rate_limit", "rate": "1/h", "charge": "success"})
    assert judged(found, call(0, status=502, reason="connect_failed"), call(1), call(2)) == [
        PASSED, PASSED, refused("p0", "rate_limit_exceeded"),
    ]  # fmt: skip


def test_limits_by_what_is_not_on_record():
    by_header = document({"policy": "rate_limit", "rate": "1/h", "key": "header:X-Tenant"})
    shown = Captured([(b"x-tenant", b"t1")])
    hidden = Captured([(b"x-tenant", b"[redacted]")])
    assert judged(by_header, call(), call(captured=hidden), call(captured=shown), call(captured=shown)) == [
        "the request's headers", "the request's headers", PASSED, refused("p0", "rate_limit_exceeded"),
    ]  # fmt: skip
    by_address = document({"policy": "rate_limit", "rate": "1/h"})
    for unknown in (call(personal=None), call(client=""), call(client="192.0.2.0/24")):
        assert judged(by_address, unknown) == ["the caller's address"]


def test_who_fails_open_does_not_pass_for_want_of_a_record():
    found = document({"policy": "ip_restriction", "allow": ["10.0.0.0/8"], "failure": "open"})
    assert judged(found, call(personal=None), call()) == ["the caller's address", refused("p0", "ip_restricted")]


def test_sizes_of_bodies():
    found = document({"policy": "request_size", "body": "10B"}, {"policy": "headers", "request": {"remove": ["X"]}})
    found["limits"] = {"body": 100}
    assert judged(found, call(bytes_in=10), call(bytes_in=11), call(bytes_in=101)) == [
        PASSED, refused("p0", "body_too_large"), refused("", "body_too_large"),
    ]  # fmt: skip
    found["policies"]["p0"]["require_length"] = True
    assert judged(found, call(bytes_in=0), call(bytes_in=1)) == [
        PASSED, "whether the body's length was announced, as p0 asks",
    ]  # fmt: skip


def test_pages_of_other_origins():
    found = document({"policy": "cors", "origins": ["https://a.example"]})
    assert judged(found, call()) == [PASSED]
    assert "preflight" in judged(found, call(method=b"OPTIONS"))[0]
    found["policies"]["p0"]["reject"] = True
    other, own = (Captured([(b"origin", origin)]) for origin in (b"https://b.example", b"https://a.example"))
    assert judged(found, call(), call(captured=other), call(captured=own)) == [
        "the request's headers", refused("p0", "origin_not_allowed"), PASSED,
    ]  # fmt: skip


RULES = {"policy": "acl", "allow": [{"params": {"id": ["7", "{consumer.id}", "a/b"]}}]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"7", PASSED),
        (b"ann", PASSED),
        (b"a%2Fb", PASSED),
        (b"8", "the value of id in the path"),
        (b"%37", "the value of id in the path"),
    ],
)
def test_rules_about_values_in_paths(value, expected):
    keyed = {"policy": "api_key"}
    found = document(keyed, RULES, path="/a/{id}", identity={"pepper": "p" * 40})
    found["consumers"] = {"ann": {"keys": [{"id": "k", "hash": HASH}]}}
    shown = call(0, value, path="/a/{id}", caller=Caller("ann", "k", "api_key"))
    assert judged(found, shown) == [expected]


def test_a_value_that_is_surely_none_of_those_named():
    rules = {"policy": "acl", "deny": [{"params": {"id": ["7", "x-y"]}}]}
    found = document(rules, path="/a/{id}")
    assert judged(found, call(0, b"8", path="/a/{id}"), call(0, b"7", path="/a/{id}")) == [
        PASSED, refused("p0", "not_allowed"),
    ]  # fmt: skip
    assert judged(found, call(0, path="/a/{id}", personal=None)) == ["the value of id in the path"]
    assert judged(found, call(0, path="/a/7")) == [Outcome(REFUSED, "a", "p0", "not_allowed")]


def test_plans_and_consumers_are_the_candidate_s():
    limited = {"policy": "rate_limit", "rate": "1/h", "key": "consumer"}
    found = document({"policy": "api_key"}, identity={"pepper": "p" * 40}, plans={"small": {"policies": ["few"]}})
    found["policies"]["few"] = limited
    found["consumers"] = {"ann": {"plan": "small", "keys": [{"id": "k", "hash": HASH}]}}
    calls = [call(each, caller=Caller("ann", "k", "api_key", "large")) for each in range(2)]
    assert judged(found, *calls) == [PASSED, refused("few", "rate_limit_exceeded")]
    found["consumers"]["ann"]["plan"] = "large"
    assert judged(found, *calls) == [PASSED, PASSED]


def test_policies_that_wait_or_fail_or_look_at_what_is_not_there(monkeypatch):
    async def waits(exchange):
        raise AssertionError("it is not asked")

    def fails(exchange):
        raise ValueError("no")

    def undecided(exchange):
        raise Undecided(problem(503, "out_of_order"))

    install(
        monkeypatch,
        waits=policy(Hooks(access=waits)),
        fails=policy(Hooks(access=fails)),
        undecided=policy(Hooks(access=undecided)),
        tls=policy(Hooks(access=lambda exchange: exchange.tls and exchange.tls.version and None)),
        body=policy(Hooks(access=lambda exchange: exchange.downstream.read_body(None))),
        path=policy(Hooks(access=lambda exchange: exchange.path.startswith(b"/") and None)),
        query=policy(Hooks(access=lambda exchange: exchange.query and None)),
    )
    assert judged(document({"policy": "waits"}), call()) == ["what p0 waits for"]
    assert judged(document({"policy": "fails"}), call()) == ["what p0 needs: here it fails (ValueError('no'))"]
    assert judged(document({"policy": "fails", "failure": "open"}), call()) == ["what p0 needs: here it fails"]
    assert "here it fails" in judged(document({"policy": "undecided"}), call())[0]
    assert judged(document({"policy": "tls"}), call(), call(tls=Tls())) == [PASSED, "the caller's TLS connection"]
    assert judged(document({"policy": "body"}), call()) == ["the request's body"]
    assert judged(document({"policy": "path"}), call()) == ["the path"]
    asked = [call(), call(captured=Captured(query=b"a=1")), call(captured=Captured(query=b"a=[redacted]"))]
    assert judged(document({"policy": "query"}), *asked) == ["the query", PASSED, "the query"]


def test_two_policies_that_find_out_who_calls_must_agree():
    found = document({"policy": "api_key"}, {"policy": "basic_auth"}, identity={"pepper": "p" * 40})
    found["consumers"] = {"ann": {"keys": [{"id": "k", "hash": HASH}]}}
    both = call(caller=Caller("ann", "k+ann", "api_key+basic_auth"))
    assert judged(found, both) == [refused("p1", "credential_invalid")]
    found["policies"]["p1"]["mode"] = "observe"
    assert judged(found, both) == [PASSED]


def test_what_a_policy_answered_by_itself_is_not_judged():
    found = document({"policy": "headers", "request": {"remove": ["X"]}})
    answered = call(verdicts=[("p0", "answered")])
    assert recorded_outcome(answered) == Outcome(ANSWERED, "a", "p0")
    assert judged(found, answered) == ["whether p0 answers by itself"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, PASSED),
        ({"status": 502, "code": "connect_failed", "reason": "connect_failed", "attempts": 1}, PASSED),
        ({"status": 503, "code": "breaker_open", "reason": "breaker_open"}, PASSED),
        ({"verdicts": [("p0", "observed"), ("cache", "hit")]}, PASSED),
        ({"verdicts": [("p0", "failed")]}, PASSED),
        ({"status": 499, "target": "t", "attempts": 1}, PASSED),
        ({"status": 429, "code": "c", "verdicts": [("p0", "observed"), ("p1", "refused")]}, refused("p1", "c")),
        ({"status": 413, "code": "body_too_large"}, refused("", "body_too_large")),
        ({"status": 204, "verdicts": [("p0", "answered")]}, Outcome(ANSWERED, "a", "p0")),
        ({"status": 499}, "what would have become of it: the caller left before"),
        (
            {"status": 500, "code": "policy_failed", "verdicts": [("p0", "failed")]},
            "what p0 would have said: it failed",
        ),
    ],
)
def test_what_the_record_says(more, expected):
    try:
        found: Any = recorded_outcome(call(**more))
    except NotOnRecord as unknown:
        found = unknown.what
    assert found == expected


def test_no_route_took_it():
    with pytest.raises(NotOnRecord, match="no route"):
        recorded_outcome(recorded_call(Operation(), status=404, code="route_not_found"))
    assert judged(document(path="/b"), call()) == [Outcome(MISSED, code="route_not_found")]


def test_outcomes_in_words():
    assert [str(each) for each in (PASSED, refused("p0", "c"), refused("", "c"), Outcome(MISSED, code="m"))] == [
        "let through", "refused by p0 c", "refused c", "missed m",
    ]  # fmt: skip


def test_nothing_stays_and_no_socket_is_opened(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket is opened"))
    found = document(
        {"policy": "quota", "limit": 5, "store": "redis"},
        {"policy": "rate_limit", "rate": "1/s", "store": "redis", "lease": 0.5, "on_store_failure": "deny"},
        {"policy": "cache", "shared": True},
        redis={"url": "redis://127.0.0.1:1/0"},
        gateway={"state_dir": str(tmp_path / "state")},
    )
    assert judged(found, call(client="")) == ["the caller's address"]
    assert judged(found, call()) == [PASSED]
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_cannot_be_built_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError):
        Candidate(decode(document({"policy": "api_key"})), START)
    assert list(tmp_path.iterdir()) == []
