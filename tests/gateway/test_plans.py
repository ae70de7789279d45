"""Plans: what a consumer's plan says holds on every route that asks who calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatewayd.config.load import decode
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Hooks, Reply
from gatewayd.gateway.build import verify
from tests.gateway.hooks import guarded
from tests.support.edge import EdgeThread
from tests.support.raw import Caller


def who(exchange: Exchange) -> Reply | None:
    """Believes what the caller says of itself: its id, and its plan."""
    name, _, plan = dict(exchange.headers).get(b"x-who", b"").decode().partition(":")
    if not name:
        return Reply(401, code="credential_missing")
    exchange.identity = Identity(Consumer(name, plan=plan), "who")
    return None


async def who_later(exchange: Exchange) -> Reply | None:
    await asyncio.sleep(0)
    return who(exchange)


def marker(name: str) -> Hooks:
    """Leaves its name in the request's path and in the reply."""

    def access(exchange: Exchange) -> None:
        exchange.headers.append((b"x-passed", name.encode()))

    def reply(exchange: Exchange, headers: Headers) -> None:
        passed = b" ".join(value for field, value in exchange.headers if field == b"x-passed")
        headers.append((b"x-" + name.encode(), passed))

    return Hooks(access, reply)


def refusing(exchange: Exchange) -> Reply:
    return Reply(403, code="plan_says_no")


def served(monkeypatch: pytest.MonkeyPatch, plans: dict[str, list[str]], **hooks: Hooks) -> dict[str, Any]:
    """A document with these plans, whose one route has all of `hooks` that no plan has."""
    base: dict[str, Any] = {"routes": {"all": {"path": "/*", "reply": {"status": 200}}}}
    made = guarded(monkeypatch, base, **hooks)
    of_plans = {name for names in plans.values() for name in names}
    for route in made["routes"].values():
        route["policies"] = [name for name in hooks if name not in of_plans]
    made["plans"] = {name: {"policies": names} for name, names in plans.items()}
    made.get("gateway", {}).pop("policies", None)
    return made


@pytest.mark.parametrize("access", [who, who_later])
def test_a_plan_has_policies_of_its_own(monkeypatch, access):
    auth = Hooks(access, authenticate=access)
    plans = {"gold": ["extra"], "barred": ["no"]}
    document = served(monkeypatch, plans, auth=auth, extra=marker("extra"), no=Hooks(refusing), last=marker("last"))
    with EdgeThread(document) as edge, Caller(edge.port) as caller:
        gold = caller.ask("/", "x-who: a:gold")
        assert (gold.status, gold.headers["x-extra"], gold.headers["x-last"]) == (200, "extra last", "extra last")
        for said in ("a", "a:unknown"):
            plain = caller.ask("/", f"x-who: {said}")
            assert (plain.status, plain.headers.get("x-extra"), plain.headers["x-last"]) == (200, None, "last")
        assert caller.ask("/", "x-who: a:barred").status == 403
        assert caller.ask("/").status == 401


def test_where_nobody_is_asked_plans_mean_nothing(monkeypatch):
    document = served(monkeypatch, {"gold": ["no"]}, no=Hooks(refusing), last=marker("last"))
    with EdgeThread(document) as edge, Caller(edge.port) as caller:
        assert caller.ask("/", "x-who: a:gold").status == 200


@pytest.mark.parametrize(
    ("ours", "others", "told"),
    [({}, {}, ""), ({"id": "X-User"}, {}, "x-user"), ({}, {"id": "X-User", "plan": "X-Tier"}, "x-tier, x-user")],
)
def test_nobody_gets_by_whoever_takes_out_forged_fields(ours, others, told):
    """By having a plan, or none: where a plan's instance runs the route's does not, and without the plan only that."""
    document = decode(
        {
            "plans": {"gold": {"policies": ["few", "plans"]}},
            "policies": {
                "few": {"policy": "rate_limit", "rate": "5/m"},
                "plans": {"policy": "consumer_headers", **ours},
                "routes": {"policy": "consumer_headers", **others},
            },
        }
    )
    found = verify(document)
    assert [(fault.path, told in fault.message) for fault in found] == [("plans.gold.policies[1]", True)] * bool(told)
