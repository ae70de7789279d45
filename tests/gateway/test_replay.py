"""Replay of what a real edge recorded: every verdict that would change is reported, exactly, and no other."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from gatewayd.audit.calls import Source, recorded
from gatewayd.audit.keys import signer_at
from gatewayd.audit.masking import pseudonyms
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.config.load import decode
from gatewayd.gateway.candidate import Candidate
from gatewayd.gateway.replay import OTHERS, Change, Report, replay
from gatewayd.identity import api_keys
from tests.support.edge import EdgeThread
from tests.support.raw import Caller
from tests.support.upstream import ScriptedUpstream

PEPPER = "p" * 40
KEYS = {name: api_keys.new_key("live") for name in ("ann", "bert")}


def served(port: int, state: str) -> dict[str, Any]:
    """Policies for partners, by key and plan; a search and anything else for everybody."""
    stored = {name: api_keys.stored(api_keys.hasher(PEPPER)(key.encode())) for name, key in KEYS.items()}
    plans = {"ann": "gold", "bert": "silver"}
    return {
        "gateway": {"state_dir": state},
        "audit": {"enabled": True},
        "identity": {"pepper": PEPPER},
        "listeners": {"http": {"address": "127.0.0.1:0"}},
        "upstreams": {"up": {"targets": [{"address": f"127.0.0.1:{port}"}]}},
        "services": {"up": {"upstream": "up"}},
        "consumers": {
            name: {"plan": plans[name], "groups": ["partners"], "keys": [{"id": f"key-{name}", "hash": stored[name]}]}
            for name in KEYS
        },
        "plans": {"gold": {}, "silver": {"policies": ["few"]}},
        "policies": {
            "key": {"policy": "api_key"},
            "few": {"policy": "rate_limit", "rate": "3/h", "key": "consumer"},
            "partners": {"policy": "acl", "allow": [{"groups": ["partners"]}]},
        },
        "routes": {
            "policy": {
                "path": "/v1/policies/{id}",
                "methods": ["GET"],
                "service": "up",
                "policies": ["key", "partners"],
            },
            "claim": {"path": "/v1/claims/{id:int}", "service": "up", "policies": ["key"]},
            "search": {"path": "/v1/policies/search", "service": "up"},
        },
    }


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """(The configuration, the records): 4 calls of ann's, 5 of bert's of which 2 are refused, 2 of nobody's; a 404."""
    state = tmp_path_factory.mktemp("state")
    with ScriptedUpstream() as upstream:
        document = served(upstream.port, str(state))
        with EdgeThread(copy.deepcopy(document)) as edge, Caller(edge.port) as caller:
            statuses = [caller.ask(f"/v1/policies/{number}", f"x-api-key: {KEYS['ann']}").status for number in range(3)]
            statuses += [
                caller.ask(f"/v1/policies/{number}", f"x-api-key: {KEYS['bert']}").status for number in range(5)
            ]
            statuses += [caller.ask("/v1/claims/17", f"x-api-key: {KEYS['ann']}").status]
            statuses += [caller.ask("/v1/policies/search").status, caller.ask("/v1/policies/7").status]
            statuses += [caller.ask("/nowhere").status]
    assert statuses == [200] * 3 + [200] * 3 + [429] * 2 + [200] + [200, 401] + [404]
    return document, Source(state, SubjectKeys(state), signer_at(state))


def replayed(evidence: Any, change: Any = None, serving: bool = False) -> Report:
    """What a candidate finds that `change` makes of the configuration."""
    document, source = evidence
    candidate = copy.deepcopy(document)
    if change is not None:
        change(candidate)
    now = time.time_ns()
    hashed = pseudonyms(source.signer.pseudonyms)
    start = now - 3600 * 10**9
    made = Candidate(decode(candidate), start, hashed, decode(document) if serving else None)
    try:
        return replay(recorded(source, start, now), made, Report())
    finally:
        made.close()


def counts(report: Report) -> dict[Change, int]:
    return {change: tally.count for change, tally in report.changes.items()}


PATH = "the path, as no route took it"
LIMITED = "refused by few rate_limit_exceeded"
NOT_FOUND = "missed route_not_found"


@pytest.mark.parametrize("serving", [False, True])
def test_the_same_configuration_changes_nothing(evidence, serving):
    report = replayed(evidence, serving=serving)
    assert (report.calls, report.same, report.changed) == (12, 11, 0)
    assert {what: tally.count for what, tally in report.undecided.items()} == {PATH: 1}
    assert report.broken == []
    assert 0 < report.first < report.last


def test_a_stricter_acl(evidence):
    def change(document):
        document["policies"]["partners"]["deny"] = [{"consumers": ["ann"]}]

    report = replayed(evidence, change)
    assert counts(report) == {Change("let through", "refused by partners not_allowed", "policy", "ann"): 3}
    ((_, tally),) = report.changes.items()
    assert len(set(tally.samples)) == 3


def test_an_acl_about_values_that_are_on_record_as_hashes_only(evidence):
    def change(document):
        document["policies"]["partners"]["deny"] = [{"params": {"id": ["1", "7", "ann"]}}]

    report = replayed(evidence, change)
    assert counts(report) == {
        Change("let through", "refused by partners not_allowed", "policy", "ann"): 1,
        Change("let through", "refused by partners not_allowed", "policy", "bert"): 1,
        Change(LIMITED, "let through", "policy", "bert"): 1,  # the one that is refused before is not charged
    }


def test_a_smaller_limit(evidence):
    def change(document):
        document["policies"]["few"]["rate"] = "1/h"

    assert counts(replayed(evidence, change)) == {Change("let through", LIMITED, "policy", "bert"): 2}


def test_a_larger_limit(evidence):
    def change(document):
        document["policies"]["few"]["rate"] = "4/h"

    assert counts(replayed(evidence, change)) == {Change(LIMITED, "let through", "policy", "bert"): 1}


def test_a_removed_route(evidence):
    def change(document):
        del document["routes"]["claim"]

    assert counts(replayed(evidence, change)) == {Change("let through", NOT_FOUND, "claim", "ann"): 1}


def test_a_route_that_would_be_taken_by_another(evidence):
    def change(document):
        del document["routes"]["search"]

    report = replayed(evidence, change)
    assert report.changes == {}
    assert set(report.undecided) == {PATH, "what the caller showed, which key asks for"}


def test_a_consumer_on_another_plan(evidence):
    def change(document):
        document["consumers"]["ann"]["plan"] = "silver"
        document["consumers"]["bert"]["plan"] = "gold"

    report = replayed(evidence, change)
    assert counts(report) == {
        Change(LIMITED, "let through", "policy", "bert"): 2,
        Change("let through", LIMITED, "claim", "ann"): 1,
    }


def test_a_moved_path(evidence):
    def change(document):
        document["routes"]["policy"]["path"] = "/v2/policies/{id}"

    assert counts(replayed(evidence, change)) == {
        Change("let through", NOT_FOUND, "policy", "ann"): 3,
        Change("let through", NOT_FOUND, "policy", "bert"): 3,
        Change(LIMITED, NOT_FOUND, "policy", "bert"): 2,
        Change("refused by key credential_missing", NOT_FOUND, "policy", ""): 1,
    }


def test_a_consumer_that_is_gone_or_has_no_such_key_any_more(evidence):
    invalid = "refused by key credential_invalid"

    def gone(document):
        del document["consumers"]["ann"]

    def revoked(document):
        document["consumers"]["ann"]["keys"][0]["revoked"] = "2020-01-01T00:00:00Z"

    def expired(document):
        document["consumers"]["ann"]["keys"][0]["expires"] = "2020-01-01T00:00:00Z"

    for change in (gone, revoked, expired):
        assert counts(replayed(evidence, change)) == {
            Change("let through", invalid, "policy", "ann"): 3,
            Change("let through", invalid, "claim", "ann"): 1,
        }


def test_other_methods(evidence):
    def change(document):
        document["routes"]["policy"]["methods"] = ["POST"]
        document["routes"]["search"]["methods"] = ["GET"]

    found = counts(replayed(evidence, change))
    assert {each.after for each in found} == {"missed method_not_allowed"}
    assert sum(found.values()) == 9


def test_another_listener_and_another_host(evidence):
    def elsewhere(document):
        document["listeners"] = {"inside": {"address": "127.0.0.1:0"}}

    def host(document):
        document["routes"]["claim"]["hosts"] = ["api.example"]

    assert {each.after for each in counts(replayed(evidence, elsewhere))} == {"missed no_listener"}
    assert counts(replayed(evidence, host)) == {Change("let through", NOT_FOUND, "claim", "ann"): 1}


def test_a_value_that_decides_and_is_not_on_record_leaves_it_open(evidence):
    def number(document):
        document["routes"]["policy"]["path"] = "/v1/policies/{id:int}"

    report = replayed(evidence, number)
    assert counts(report) == {}
    assert report.undecided["a value of the path, which decides whether policy is meant"].count == 9

    def sibling(document):
        document["routes"]["uuid"] = {"path": "/v1/policies/{id:uuid}", "service": "up"}

    assert replayed(evidence, sibling).undecidable == 10


def test_what_the_serving_configuration_had_already_is_decided(evidence):
    """The search is more specific than a policy; that one was not meant, its hash tells, or the old routes do."""
    document, source = evidence
    report = replayed((document, source._replace(subjects=None)))
    assert report.undecided["a value of the path, which decides whether search is meant"].count == 9
    report = replayed((document, source._replace(subjects=None)), serving=True)
    assert (report.same, report.changed) == (11, 0)


def test_somebody_asks_for_keys_where_nobody_did(evidence):
    def change(document):
        document["routes"]["search"]["policies"] = ["key"]

    report = replayed(evidence, change)
    assert report.changes == {}
    assert report.undecided["what the caller showed, which key asks for"].count == 1


def test_another_kind_of_credential(evidence):
    def change(document):
        document["policies"]["key"] = {"policy": "basic_auth"}

    report = replayed(evidence, change)
    assert report.changes == {}
    assert report.undecided["whether who was recognised by api_key shows what key asks for"].count == 9


def test_by_address(evidence):
    def change(document):
        document["policies"]["inside"] = {"policy": "ip_restriction", "deny": ["127.0.0.0/8"]}
        document["routes"]["claim"]["policies"].append("inside")

    assert counts(replayed(evidence, change)) == {
        Change("let through", "refused by inside ip_restricted", "claim", "ann"): 1
    }
    document, source = evidence
    erased = replayed((document, source._replace(subjects=None)), change, serving=True)
    assert erased.undecided["the caller's address"].count == 1


def test_an_instance_that_only_observes_changes_nothing(evidence):
    def change(document):
        document["policies"]["partners"] |= {"deny": [{"consumers": ["ann"]}], "mode": "observe"}

    assert replayed(evidence, change).changes == {}


def test_shared_limits_count_what_is_on_record(evidence):
    def change(document):
        document["policies"]["few"] |= {"store": "redis", "lease": 0.5, "rate": "1/h"}
        document["redis"] = {"url": "redis://127.0.0.1:1/0"}

    assert counts(replayed(evidence, change)) == {Change("let through", LIMITED, "policy", "bert"): 2}


def test_quotas_begin_at_nothing_and_leave_nothing_behind(evidence):
    _, source = evidence

    def change(candidate):
        candidate["policies"]["few"] = {"policy": "quota", "limit": 1, "per": "year"}

    found = counts(replayed(evidence, change))
    assert found == {
        Change("let through", "refused by few quota_exceeded", "policy", "bert"): 2,
        Change(LIMITED, "refused by few quota_exceeded", "policy", "bert"): 2,
    }
    assert not (source.state / "quotas").exists()


def test_kinds_of_changes_are_bounded(evidence, monkeypatch):
    monkeypatch.setattr("gatewayd.gateway.replay.KINDS", 1)

    def change(document):
        document["routes"]["policy"]["path"] = "/v2/policies/{id}"

    report = replayed(evidence, change)
    assert len(report.changes) == 2
    assert report.changes[Change(OTHERS, OTHERS, "", "")].count == 6
    assert report.changed == 9


def test_the_report_as_data(evidence):
    def change(document):
        document["policies"]["few"]["rate"] = "1/h"

    report = replayed(evidence, change)
    plain = report.plain(10)
    assert {name: plain[name] for name in ("calls", "same", "changed", "undecided", "broken")} == {
        "calls": 12, "same": 9, "changed": 2, "undecided": 1, "broken": [],
    }  # fmt: skip
    (kind,) = plain["changes"]
    assert kind["before"] == "let through"
    assert (kind["after"], kind["route"], kind["consumer"], kind["calls"]) == (LIMITED, "policy", "bert", 2)
    assert len(kind["request_ids"]) == 2
    assert plain["reasons"] == [{"not_on_record": PATH, "calls": 1, "request_ids": plain["reasons"][0]["request_ids"]}]
    assert report.plain(0)["changes"] == []
