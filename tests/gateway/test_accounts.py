"""What callers and operators are told of limits: those that hold for whom it is about, from the counters that serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewayd.config.load import decode
from gatewayd.core.identity import Consumer
from gatewayd.core.policy import Hooks, NoConsumers, Reply, Undecided, Usage
from gatewayd.gateway.accounts import accounts, hearing
from gatewayd.gateway.snapshot import ChainLink
from gatewayd.handlers.usage import Account
from tests.support.edge import EdgeThread


def link(name: str, *, counts: bool = True) -> ChainLink:
    usage = (lambda exchange, now: Usage(1, 0, 1, 0)) if counts else None
    return ChainLink(name, "quota", "enforce", "closed", Hooks(usage=usage))


def found(document: dict[str, Any], *links: ChainLink) -> list[tuple[str, frozenset[str] | None]]:
    return [(each.instance, each.plans) for each in accounts({each.instance: each for each in links}, decode(document))]


def test_what_is_named_somewhere_holds_for_everybody():
    document = {
        "gateway": {"policies": ["a"]},
        "services": {"s": {"upstream": "u", "policies": ["b"]}},
        "routes": {"r": {"path": "/", "service": "s", "policies": ["c", "d"]}},
        "plans": {"gold": {"policies": ["a"]}},
    }
    links = [link("a"), link("b"), link("c"), link("d", counts=False), link("e")]
    assert found(document, *links) == [("a", None), ("b", None), ("c", None)]


def test_what_only_plans_name_holds_for_those_who_have_one():
    plans = {"gold": {"policies": ["a"]}, "silver": {"policies": ["a", "b"]}, "free": {"policies": []}}
    assert found({"plans": plans}, link("a"), link("b")) == [
        ("a", frozenset({"gold", "silver"})),
        ("b", frozenset({"silver"})),
    ]


def test_an_operator_is_told_that_a_counter_is_out_of_order():
    def fails(exchange: Any, now: int) -> Usage:
        raise Undecided(Reply(503, code="quota_unavailable"))

    class Anybody(NoConsumers):
        def by_id(self, consumer: str) -> Consumer:
            return Consumer(consumer)

    heard = hearing((Account("a", "quota", fails, None),), Anybody(), lambda: 0.0)
    assert heard(b"ann") == {"error": "quota_unavailable"}


DOCUMENT = {
    "routes": {
        "all": {"path": "/*", "reply": {"body": "here"}, "policies": ["plan", "steady", "window", "few", "by-route"]},
        "usage": {"path": "/usage", "methods": ["GET"], "usage": True},
    },
    "policies": {
        "plan": {"policy": "quota", "limit": 100, "per": "year", "key": "header:x-user"},
        "steady": {"policy": "rate_limit", "rate": "10/d", "key": "address"},
        "window": {"policy": "rate_limit", "rate": "20/d", "algorithm": "sliding_window", "key": "address"},
        "few": {"policy": "concurrency_limit", "limit": 5, "key": "address"},
        "by-route": {"policy": "quota", "limit": 100, "per": "year", "key": ["route", "address"]},
    },
}


@pytest.fixture
def edge(tmp_path: Path):
    document = json.loads(json.dumps(DOCUMENT)) | {"gateway": {"state_dir": str(tmp_path)}}
    with EdgeThread(document) as edge:
        yield edge


def test_callers_see_what_they_have_used_and_asking_uses_nothing(edge):
    with httpx.Client(base_url=f"http://127.0.0.1:{edge.port}") as caller:
        for _ in range(3):
            assert caller.get("/", headers={"x-user": "ann"}).status_code == 200
        assert caller.get("/", headers={"x-user": "bob"}).status_code == 200
        for _ in range(2):
            reply = caller.get("/usage", headers={"x-user": "ann"})
    assert reply.headers["content-type"] == "application/json"
    told = {each.pop("name"): tuple(each.values())[:4] for each in reply.json()["limits"]}
    assert told == {
        "plan": ("quota", 100, 3, 97),
        "steady": ("rate_limit", 10, 4, 6),
        "window": ("rate_limit", 20, 4, 16),
        "few": ("concurrency_limit", 5, 0, 5),
    }


def test_the_head_of_it_can_be_had_alone(edge):
    reply = httpx.head(f"http://127.0.0.1:{edge.port}/usage")
    assert (reply.status_code, reply.content) == (200, b"")


def test_operators_ask_for_consumers_there_are(tmp_path):
    document = {
        "gateway": {"state_dir": str(tmp_path), "policies": ["plan", "by-address"]},
        "routes": {"all": {"path": "/*", "reply": {"body": "here"}}},
        "consumers": {"ann": {}},
        "policies": {
            "plan": {"policy": "quota", "limit": 100, "per": "year"},
            "by-address": {"policy": "quota", "limit": 100, "per": "year", "key": "address"},
        },
    }
    with EdgeThread(document) as edge:
        (ann,) = json.loads(edge.call(edge.edge.tell, "usage", b"ann"))
        assert json.loads(edge.call(edge.edge.tell, "usage", b"bob")) == [None]
    assert ann["consumer"] == "ann"
    assert [(each["name"], each["used"]) for each in ann["limits"]] == [("plan", 0)]
