"""Policies on routes: their order, which instances run, and what mode and failure make of their hooks."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable
from typing import Any

import pytest
from msgspec import Struct

from gatewayd import policies
from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import BuildContext, Hooks, Reply, Route
from gatewayd.errors import ConfigError, Fault
from gatewayd.gateway.chains import CONFIGS, attach, build_links, chain, crowded
from gatewayd.gateway.snapshot import ChainLink
from tests.support.exchanges import make_exchange
from tests.support.policies import install, policy

REFUSAL = Reply(403, code="no")


def links_of(tables: dict[str, Any]) -> dict[str, ChainLink]:
    links, faults = build_links(tables, lambda name: BuildContext(name, clock=FakeClock()))
    assert faults == []
    return links


def chain_of(tables: dict[str, Any], *, gateway: Any = (), service: Any = (), route: Any = ()) -> list[str]:
    """The instances on a route when these are attached."""
    raw = {
        "gateway": {"policies": list(gateway)},
        "services": {"api": {"upstream": "up", "policies": list(service)}},
        "routes": {"all": {"path": "/*", "service": "api", "policies": list(route)}},
    }
    document = decode(raw)
    return [link.instance for link in chain(links_of(tables), document, document.routes["all"])]


# -- order ------------------------------------------------------------------------------------------------------------


def three(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Instances of three policies, run in the order first, second, third."""
    install(monkeypatch, first=policy(Hooks()), second=policy(Hooks()), third=policy(Hooks()))
    return {"first": {}, "second": {}, "third": {}}


def test_the_order_is_never_the_lists(monkeypatch):
    tables = three(monkeypatch)
    for listed in itertools.permutations(tables):
        assert chain_of(tables, route=listed) == ["first", "second", "third"]
        assert chain_of(tables, gateway=listed[:1], service=listed[1:2], route=listed[2:]) == [
            "first",
            "second",
            "third",
        ]
    assert chain_of(dict(reversed(tables.items())), route=["third", "first"]) == ["first", "third"]


def test_instances_of_one_policy_run_from_the_gateway_inwards(monkeypatch):
    install(monkeypatch, first=policy(Hooks()), second=policy(Hooks()))
    tables = {name: {"policy": "first"} for name in "abcd"} | {"second": {}}
    found = chain_of(tables, gateway=["second", "c"], service=["b"], route=["d", "a"])
    assert found == ["c", "b", "d", "a", "second"]


def test_an_instance_attached_twice_runs_once(monkeypatch):
    tables = three(monkeypatch)
    assert chain_of(tables, gateway=["first"], service=["first"], route=["first", "first"]) == ["first"]


@pytest.mark.parametrize(
    ("gateway", "service", "route", "expected"),
    [
        (["a"], ["b"], ["c"], ["c"]),
        (["a"], ["b"], [], ["b"]),
        (["a"], [], [], ["a"]),
        ([], [], [], []),
        (["a"], [], ["other"], ["a", "other"]),
    ],
)
def test_of_a_policy_that_does_not_stack_the_nearest_runs(monkeypatch, gateway, service, route, expected):
    install(monkeypatch, lone=policy(Hooks(), stacks=False), other=policy(Hooks()))
    tables = {name: {"policy": "lone"} for name in "abcd"} | {"other": {}}
    assert chain_of(tables, gateway=gateway, service=service, route=route) == expected


def test_two_of_a_policy_that_does_not_stack_are_a_fault_in_one_list(monkeypatch):
    """Nothing would say which of them is the nearest."""
    install(monkeypatch, lone=policy(Hooks(), stacks=False), other=policy(Hooks()))
    tables = {name: {"policy": "lone"} for name in "abcd"} | {"other": {}, "more": {"policy": "other"}}
    document = decode(
        {
            "gateway": {"policies": ["other", "a", "more", "b"]},
            "services": {"api": {"upstream": "up", "policies": ["c"]}},
            "routes": {"v1.0": {"path": "/*", "policies": ["a", "d", "a"]}, "fine": {"path": "/a", "policies": ["b"]}},
            "plans": {"gold": {"policies": ["c", "b"]}},
        }
    )
    faults = [(fault.path, fault.message, fault.found) for fault in crowded(links_of(tables), document)]
    assert faults == [
        ("gateway.policies[3]", "a is a lone too, and only one can count here", "b"),
        ('routes."v1.0".policies[1]', "a is a lone too, and only one can count here", "d"),
        ("plans.gold.policies[1]", "c is a lone too, and only one can count here", "b"),
    ]


def test_a_route_without_a_service_has_the_gateways_policies(monkeypatch):
    tables = three(monkeypatch)
    document = decode({"gateway": {"policies": ["second"]}, "routes": {"all": {"path": "/*", "reply": {}}}})
    assert [link.instance for link in chain(links_of(tables), document, document.routes["all"])] == ["second"]


def test_hooks_are_attached_in_order_and_only_where_there_are_some():
    def access(exchange: Exchange) -> None: ...
    def reply(exchange: Exchange, headers: Headers) -> None: ...
    def log(exchange: Exchange) -> None: ...

    hooks = [Hooks(access=access), Hooks(reply=reply), Hooks(access=access, log=log), Hooks()]
    route = Route("all", lambda exchange: None)
    attach(
        route,
        tuple(ChainLink(f"i{at}", "p", "enforce", "closed", each) for at, each in enumerate(hooks)),
        FakeClock().monotonic,
    )
    assert (route.access, route.reply, route.log) == ((("i0", access), ("i2", access)), (reply,), (log,))


class Allowance:
    """A limit with room for so many."""

    def __init__(self, room: int) -> None:
        self.room = room

    def take(self, exchange: Exchange, now: int) -> Reply | None:
        if not self.room:
            return REFUSAL
        self.room -= 1
        return None

    def give_back(self, exchange: Exchange) -> None:
        self.room += 1


def limited(*links: tuple[str, Hooks, str]) -> Route:
    """A route with these links: instance, hooks, mode."""
    route = Route("all", lambda exchange: None)
    chained = tuple(ChainLink(instance, "p", mode, "closed", hooks) for instance, hooks, mode in links)
    attach(route, chained, FakeClock().monotonic)
    return route


def test_limits_are_one_step_at_the_place_of_the_first():
    def access(exchange: Exchange) -> None: ...

    wide, narrow = Allowance(5), Allowance(1)
    first, *others = [Hooks(access=access), Hooks(limit=wide), Hooks(access=access), Hooks(limit=narrow)]
    route = limited(("a", first, "enforce"), *((f"b{at}", each, "enforce") for at, each in enumerate(others)))
    assert [name for name, _ in route.access] == ["a", "", "b1"]
    step = route.access[1][1]
    exchanges = [make_exchange() for _ in range(2)]
    assert [step(exchange) for exchange in exchanges] == [None, REFUSAL]
    assert exchanges[1].verdicts == [("b2", "refused")]
    assert (wide.room, narrow.room) == (4, 0)


def test_a_limit_that_observes_refuses_nothing():
    route = limited(("quiet", Hooks(limit=Allowance(0)), "observe"), ("loud", Hooks(limit=Allowance(1)), "enforce"))
    exchange = make_exchange()
    assert route.access[0][1](exchange) is None
    assert exchange.verdicts == [("quiet", "observed")]


# -- tables -----------------------------------------------------------------------------------------------------------


class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of a made-up policy."""

    limit: int = 3


def test_a_policy_gets_its_own_options_and_its_context(monkeypatch):
    seen = []

    def build(config: Options, context: BuildContext) -> Hooks:
        seen.append((config.limit, context.instance, context.keep("count", list)))
        return Hooks(explain=f"limit {config.limit}")

    install(monkeypatch, limit=policy(build, config=Options))
    clock, kept = FakeClock(), {}
    tables = {"limit": {}, "low": {"policy": "limit", "limit": 1, "mode": "observe", "failure": "open"}}
    for _ in range(2):
        links, faults = build_links(tables, lambda name: BuildContext(name, clock=clock, kept=kept))
        assert faults == []
    assert [(limit, name) for limit, name, _ in seen] == [(3, "limit"), (1, "low")] * 2
    assert seen[0][2] is seen[2][2] is not seen[1][2]
    assert links["low"][:4] == ("low", "limit", "observe", "open")
    assert links["low"].explain == "limit 1"


def test_all_that_is_wrong_with_all_tables_is_gathered(monkeypatch):
    def build(config: Options, context: BuildContext) -> Hooks:
        raise ConfigError([Fault("limit", "too low"), Fault("more[1]", "odd")])

    install(monkeypatch, limit=policy(build, config=Options), fine=policy(Hooks()))
    tables = {
        "limit": {},
        "typo": {"policy": "limt"},
        "unknown": {"policy": "fine", "x": 1},
        "kind": {"policy": "limit", "limit": "many"},
        "mode": {"policy": "fine", "mode": "off"},
        "fine": {},
    }
    links, faults = build_links(tables, lambda name: BuildContext(name, clock=FakeClock()))
    assert links.keys() == {"fine"}
    assert [fault.path for fault in faults] == [
        "policies.limit.limit",
        "policies.limit.more[1]",
        "policies.typo.policy",
        "policies.unknown.x",
        "policies.kind.limit",
        "policies.mode.mode",
    ]


def test_the_configs_are_those_of_the_order_and_imported_when_asked_for(monkeypatch):
    assert list(CONFIGS) == list(policies.ORDER)
    assert len(CONFIGS) == len(policies.ORDER)
    assert CONFIGS["cors"].__struct_fields__
    install(monkeypatch, limit=policy(Hooks(), config=Options))
    assert dict(CONFIGS) == {"limit": Options}
    with pytest.raises(KeyError):
        CONFIGS["cors"]


# -- mode and failure -------------------------------------------------------------------------------------------------


def tempered(monkeypatch: pytest.MonkeyPatch, hooks: Hooks, **common: str) -> Hooks:
    install(monkeypatch, made=policy(hooks))
    return links_of({"it": {"policy": "made", **common}})["it"].hooks


def decided(hooks: Hooks) -> tuple[Any, Any]:
    """The verdict on an exchange, waited for if need be, and what was noted."""
    exchange = make_exchange()
    assert hooks.access is not None
    verdict = hooks.access(exchange)
    if isinstance(verdict, Awaitable):

        async def wait() -> Any:
            return await verdict

        verdict = asyncio.run(wait())
    return verdict, exchange.verdicts


def refuse(exchange: Exchange) -> Reply:
    return REFUSAL


def let_pass(exchange: Exchange) -> None:
    return None


def break_down(exchange: Exchange) -> None:
    raise LookupError("broken")


async def refuse_later(exchange: Exchange) -> Reply:
    return REFUSAL


async def let_pass_later(exchange: Exchange) -> None:
    return None


async def break_down_later(exchange: Exchange) -> None:
    raise LookupError("broken")


@pytest.mark.parametrize("access", [refuse, let_pass, break_down, refuse_later])
def test_to_enforce_and_fail_closed_is_the_plain_hook(monkeypatch, access):
    assert tempered(monkeypatch, Hooks(access=access)).access is access


@pytest.mark.parametrize(
    ("access", "common", "expected"),
    [
        (refuse, {"mode": "observe"}, (None, [("it", "observed")])),
        (refuse_later, {"mode": "observe"}, (None, [("it", "observed")])),
        (let_pass, {"mode": "observe"}, (None, None)),
        (let_pass_later, {"mode": "observe"}, (None, None)),
        (break_down, {"mode": "observe"}, (None, [("it", "failed")])),
        (break_down_later, {"mode": "observe"}, (None, [("it", "failed")])),
        (refuse, {"failure": "open"}, (REFUSAL, None)),
        (refuse_later, {"failure": "open"}, (REFUSAL, None)),
        (break_down, {"failure": "open"}, (None, [("it", "failed")])),
        (break_down_later, {"failure": "open"}, (None, [("it", "failed")])),
        (refuse, {"mode": "observe", "failure": "open"}, (None, [("it", "observed")])),
    ],
)
def test_lenient_hooks(monkeypatch, caplog, access, common, expected):
    with caplog.at_level(logging.CRITICAL):
        assert decided(tempered(monkeypatch, Hooks(access=access), **common)) == expected


def test_what_fails_open_is_told(monkeypatch, caplog):
    decided(tempered(monkeypatch, Hooks(access=break_down), failure="open"))
    assert "policy it failed" in caplog.text
    assert "LookupError" in caplog.text


def add(exchange: Exchange, headers: Headers) -> None:
    headers.append((b"x-added", b"1"))


def spoil(exchange: Exchange, headers: Headers) -> None:
    headers.clear()
    raise LookupError


def test_an_observer_changes_no_reply_and_still_logs(monkeypatch):
    hooks = tempered(monkeypatch, Hooks(reply=add, log=let_pass), mode="observe")
    assert (hooks.reply, hooks.log) == (None, let_pass)


def test_a_reply_hook_that_fails_open_leaves_the_reply_as_it_was(monkeypatch, caplog):
    hooks = tempered(monkeypatch, Hooks(reply=spoil), failure="open")
    exchange, headers = make_exchange(), [(b"etag", b'"a"')]
    hooks.reply(exchange, headers)
    assert headers == [(b"etag", b'"a"')]
    assert exchange.verdicts == [("it", "failed")]


def test_a_reply_hook_that_works_may_change_it(monkeypatch):
    hooks = tempered(monkeypatch, Hooks(reply=add), failure="open")
    headers: Headers = []
    hooks.reply(make_exchange(), headers)
    assert headers == [(b"x-added", b"1")]


def test_a_reply_hook_that_fails_closed_is_the_plain_hook(monkeypatch):
    assert tempered(monkeypatch, Hooks(reply=spoil)).reply is spoil
