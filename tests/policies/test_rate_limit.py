"""rate_limit: who is let through, what replies say, and how instances go together on a route."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gatewayd.config.model import Document, decode
from gatewayd.config.units import Rate
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import BuildContext, Hooks, NoConsumers
from gatewayd.errors import ConfigError
from gatewayd.observe.tokens import Verdict
from gatewayd.policies import rate_limit
from tests.limits.workers import SECOND, contexts
from tests.support.edge import EdgeThread, proxied
from tests.support.exchanges import make_exchange
from tests.support.policies import install, policy
from tests.support.raw import Caller
from tests.support.upstream import OK, ScriptedUpstream, answer

NOW = 1_000 * SECOND
BOTH = pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window"])


def build(context: BuildContext | None = None, **options: Any) -> Hooks:
    context = context or contexts(1)[0]
    options["rate"] = Rate.parse(options.get("rate", "2/s"))
    return rate_limit.build(rate_limit.Config(**options), context)


def through(hooks: Hooks, count: int, now: int = NOW, **attributes: Any) -> int:
    """How many of so many exchanges were let through."""
    assert hooks.limit is not None
    return sum(hooks.limit.take(make_exchange(**attributes), now) is None for _ in range(count))


# -- what may be configured -------------------------------------------------------------------------------------------


@BOTH
def test_a_rate_is_as_many_at_once_as_it_says(algorithm):
    hooks = build(rate="3/10s", algorithm=algorithm)
    assert through(hooks, 5) == 3
    assert through(hooks, 5, NOW + SECOND) == 0
    assert through(hooks, 5, NOW + 11 * SECOND) == 3


def test_a_burst_is_what_it_says():
    hooks = build(rate="1/s", burst=5)
    assert through(hooks, 9) == 5
    assert through(hooks, 9, NOW + 2 * SECOND) == 2


def test_slow_rates_let_one_through_at_a_time():
    hooks = build(rate="0.5/s")
    assert [through(hooks, 2, NOW + at * SECOND) for at in range(5)] == [1, 0, 1, 0, 1]


def test_workers_that_build_the_same_limit_share_it():
    one, two = (build(context, rate="4/m") for context in contexts(2))
    assert through(one, 3) + through(two, 3) == 4


def test_a_reload_goes_on_where_the_old_generation_stood():
    context = contexts(1)[0]
    assert through(build(context, rate="4/m"), 3) == 3
    assert through(build(context, rate="4/m"), 3) == 1


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"algorithm": "sliding_window", "burst": 3}, "burst"),
        ({"algorithm": "sliding_window", "rate": "0.5/s"}, "rate"),
        ({"algorithm": "sliding_window", "rate": "20000000/s"}, "rate"),
        ({"algorithm": "sliding_window", "rate": "5/1ms"}, "rate"),
        ({"rate": "1/100000d"}, "rate"),
        ({"rate": "900000000/s"}, "rate"),
        ({"key": []}, "key"),
        ({"key": ["address", "address"]}, "key"),
        ({"weights": {"none": 1}}, "weights.none"),
        ({"weights": {"all": 3}}, "weights.all"),
    ],
)
def test_what_cannot_be_is_said(options, path):
    context = contexts(1)[0]
    context.document = DOCUMENT
    with pytest.raises(ConfigError) as caught:
        build(context, **options)
    assert [fault.path for fault in caught.value.faults] == [path]


DOCUMENT: Document = decode({"routes": {"all": {"path": "/*", "reply": {}}}})


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        build(algorithm="sliding_window", burst=3, rate="0.5/s", key=[], weights={"a": 1})
    assert len(caught.value.faults) == 4


def test_explain():
    assert build(rate="50/s", burst=20).explain == "50/s, 20 at once, for each address"
    found = build(rate="100/m", algorithm="sliding_window", key=["consumer", "route"]).explain
    assert found == "100/m in any window, for each consumer and route"


@BOTH
def test_the_wall_clock_may_go_back_and_forth(algorithm):
    """Limits go by the monotonic clock: a clock that is set grants nothing, and takes nothing away."""
    clock = FakeClock()
    hooks = build(contexts(1, clock=clock)[0], rate="2/h", algorithm=algorithm)
    assert through(hooks, 2) == 2
    for step in (-10_000_000.0, 20_000_000.0):
        clock.wall_now += step
        assert through(hooks, 2) == 0
    later = NOW + 3_900 * SECOND
    clock.now, clock.wall_now = later / SECOND, 0.0
    assert through(hooks, 3, later) == 2


# -- whom it counts for -----------------------------------------------------------------------------------------------


class Known(NoConsumers):
    """Consumers with a short id."""

    def by_id(self, consumer: str) -> Consumer | None:
        return Consumer(consumer) if len(consumer) < 10 else None


def called(consumer: str) -> Identity:
    return Identity(Consumer(consumer), "api_key", f"{consumer}-1")


@BOTH
def test_strangers_cannot_starve_a_consumer(algorithm):
    context = contexts(1)[0]
    context.consumers = Known()
    hooks = build(context, rate="5/h", key="consumer", algorithm=algorithm)
    for number in range(20_000):
        assert hooks.limit is not None
        hooks.limit.take(make_exchange(client=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"), NOW)
    assert through(hooks, 7, identity=called("acme")) == 5
    assert through(hooks, 7, identity=called("bolt")) == 5


# -- on a route -------------------------------------------------------------------------------------------------------


def document(upstream: ScriptedUpstream, **instances: dict[str, Any]) -> dict[str, Any]:
    tables = {name: {"policy": "rate_limit", **table} for name, table in instances.items()}
    found = proxied(upstream.port)
    found["routes"]["all"]["policies"] = list(instances)
    return {**found, "policies": tables}


@BOTH
def test_the_reply_of_one_that_is_too_many(algorithm):
    with ScriptedUpstream() as upstream:
        limit = {"rate": "2/h", "algorithm": algorithm, "legacy_headers": True}
        with EdgeThread(document(upstream, slow=limit)) as edge, Caller(edge.port) as caller:
            replies = [caller.ask() for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [reply.headers["ratelimit"].partition(";t=")[0] for reply in replies] == [
        '"slow";r=1',
        '"slow";r=0',
        '"slow";r=0',
    ]
    assert {reply.headers["ratelimit-policy"] for reply in replies} == {'"slow";q=2;w=3600'}
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["1", "0", "0"]
    assert replies[2].headers["x-ratelimit-limit"] == "2"
    problem = orjson.loads(replies[2].body)
    assert (problem["code"], problem["policy"], problem["status"]) == ("rate_limit_exceeded", "slow", 429)
    wait = int(replies[2].headers["retry-after"])
    assert replies[2].headers["ratelimit"].endswith(f";t={wait}")
    assert 1 <= wait <= 3_900


def test_of_several_limits_all_hold_and_what_one_refuses_costs_no_other():
    with ScriptedUpstream() as upstream:
        limits = {"wide": {"rate": "10/h", "legacy_headers": True}, "narrow": {"rate": "2/h", "legacy_headers": True}}
        clock = FakeClock()
        with EdgeThread(document(upstream, **limits), clock) as edge, Caller(edge.port) as caller:
            replies = [caller.ask() for _ in range(6)]
            clock.advance(1_800)
            replies.append(caller.ask())
    assert [reply.status for reply in replies] == [200, 200, 429, 429, 429, 429, 200]
    assert {orjson.loads(reply.body)["policy"] for reply in replies if reply.status == 429} == {"narrow"}
    last = replies[-1]
    assert last.headers["ratelimit"].startswith(('"narrow";r=0;', '"wide";r=9;'))  # the parser keeps one line
    assert (last.headers["x-ratelimit-limit"], last.headers["x-ratelimit-remaining"]) == ("2", "0")


def test_every_reply_tells_of_every_limit():
    with ScriptedUpstream() as upstream:
        found = document(upstream, one={"rate": "10/h"}, two={"rate": "20/h"})
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            raw = caller.to_end().lower()
    lines = [line for line in raw.split(b"\r\n") if line.startswith(b"ratelimit")]
    assert sorted(line.partition(b";t=")[0] for line in lines) == [
        b'ratelimit-policy: "one";q=10;w=3600',
        b'ratelimit-policy: "two";q=20;w=3600',
        b'ratelimit: "one";r=9',
        b'ratelimit: "two";r=19',
    ]


def test_observed_it_refuses_nothing_and_says_nothing():
    with ScriptedUpstream() as upstream:
        found = document(upstream, quiet={"rate": "1/h", "mode": "observe"})
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            replies = [caller.ask() for _ in range(3)]
            edge.call(edge.edge._pipeline.record)
            verdicts = edge.totals().verdicts
    assert [reply.status for reply in replies] == [200] * 3
    assert not any(name.startswith("ratelimit") for name in replies[0].headers)
    assert verdicts == {Verdict("quiet", "rate_limit", "observe", "observed"): 2}


@pytest.mark.parametrize(("charge", "statuses"), [("request", [500, 429]), ("success", [500, 500, 500])])
def test_what_the_target_failed_at_may_cost_nothing(charge, statuses):
    broken = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"
    with ScriptedUpstream(answer(broken)) as upstream:
        found = document(upstream, slow={"rate": "1/h", "charge": charge})
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            assert [caller.ask().status for _ in statuses] == statuses


def test_success_is_charged():
    with ScriptedUpstream(answer(OK)) as upstream:
        found = document(upstream, slow={"rate": "1/h", "charge": "success"})
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            assert [caller.ask().status for _ in range(2)] == [200, 429]


def test_routes_weigh_differently():
    with ScriptedUpstream() as upstream:
        found = document(upstream, slow={"rate": "4/h", "weights": {"dear": 3}})
        found["routes"]["dear"] = {"path": "/dear", "service": "up", "policies": ["slow"]}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            assert [caller.ask(path).status for path in ("/dear", "/dear", "/", "/")] == [200, 429, 200, 429]


def test_a_consumer_counts_as_itself_wherever_it_calls_from(monkeypatch):
    def build_identity(config: Any, context: BuildContext) -> Hooks:
        def access(exchange: Any) -> None:
            exchange.identity = called(dict(exchange.headers)[b"x-who"].decode())

        return Hooks(access=access)

    install(monkeypatch, who=policy(build_identity), rate_limit=rate_limit)
    with ScriptedUpstream() as upstream:
        found = document(upstream, slow={"rate": "2/h", "key": "consumer"})
        found["routes"]["all"]["policies"].append("who")
        found["policies"]["who"] = {}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            asked = [caller.ask("/", f"x-who: {name}").status for name in ("a", "a", "a", "b", "b", "b", "a")]
    assert asked == [200, 200, 429, 200, 200, 429, 429]
