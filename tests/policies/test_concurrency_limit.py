"""concurrency_limit: how many at once, and that every way out of an exchange makes room again."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest

from gatewayd.core.arena import Arena
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import concurrency_limit
from gatewayd.policies.concurrency_limit import Config
from tests.limits.workers import contexts
from tests.support.edge import WAIT, EdgeThread, proxied
from tests.support.exchanges import make_exchange
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream

LIMIT = {"policy": "concurrency_limit", "limit": 1}


class Gate:
    """Targets that answer when they are told to; what they answer is told, too."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked = threading.Semaphore(0)
        self.reply = OK

    def script(self, peer: Peer) -> None:
        while peer.read_head():
            self.asked.release()
            assert self.open.wait(WAIT)
            if self.reply:
                peer.send(self.reply)
            else:
                peer.reset()

    def wait(self) -> None:
        """Until a request has come through."""
        assert self.asked.acquire(timeout=WAIT)


def document(upstream: ScriptedUpstream, **instances: dict[str, Any]) -> dict[str, Any]:
    found = proxied(upstream.port, retries={"attempts": 0})
    found["routes"]["all"]["policies"] = list(instances)
    return {**found, "policies": instances}


def test_one_too_many_is_refused_and_told_so():
    gate = Gate()
    with (
        ScriptedUpstream(gate.script) as upstream,
        EdgeThread(document(upstream, lone=LIMIT)) as edge,
        Caller(edge.port) as first,
        Caller(edge.port) as second,
    ):
        first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        gate.wait()
        refused = second.ask()
        gate.open.set()
        assert first.answer().status == 200
        assert second.ask().status == 200
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    problem = orjson.loads(refused.body)
    assert (problem["code"], problem["policy"]) == ("concurrency_limit_exceeded", "lone")


@pytest.mark.parametrize("way", ["answered", "caller gone", "target gone", "too late"])
def test_every_way_out_makes_room(way):
    gate = Gate()
    with ScriptedUpstream(gate.script) as upstream:
        found = document(upstream, lone=LIMIT)
        found["services"]["up"]["timeouts"] = {"first_byte": "100ms" if way == "too late" else "1m"}
        with EdgeThread(found) as edge:
            with Caller(edge.port) as first:
                first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                gate.wait()
                if way == "too late":
                    assert first.answer().status == 504
                elif way == "target gone":
                    gate.reply = b""
                    gate.open.set()
                    assert first.answer().status == 502
                elif way == "answered":
                    gate.open.set()
                    assert first.answer().status == 200
            gate.reply = OK
            gate.open.set()
            edge.until(lambda: edge.call(lambda: edge.edge.connections) == 0)
            with Caller(edge.port) as second:
                assert [second.ask().status for _ in range(3)] == [200] * 3


def test_what_another_limit_refuses_is_not_under_way():
    gate = Gate()
    gate.open.set()
    with ScriptedUpstream(gate.script) as upstream:
        slow = {"policy": "rate_limit", "rate": "1/h"}
        with EdgeThread(document(upstream, lone=LIMIT, slow=slow)) as edge, Caller(edge.port) as caller:
            replies = [caller.ask() for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 429, 429, 429]
    assert {reply.code for reply in replies[1:]} == {"rate_limit_exceeded"}


def test_a_reload_forgets_nobody_who_is_under_way():
    gate = Gate()
    with (
        ScriptedUpstream(gate.script) as upstream,
        EdgeThread(document(upstream, lone=LIMIT)) as edge,
        Caller(edge.port) as first,
        Caller(edge.port) as second,
    ):
        first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        gate.wait()
        edge.apply(document(upstream, lone=LIMIT))
        assert second.ask().status == 429
        gate.open.set()
        assert first.answer().status == 200
        assert second.ask().status == 200


def test_workers_that_build_the_same_limit_share_it():
    arena = Arena(size=1 << 27)
    one, two = (concurrency_limit.build(Config(limit=2), context) for context in contexts(2, arena))
    asked = [make_exchange() for _ in range(3)]
    verdicts = [hooks.limit.take(each, 0) is None for hooks, each in zip((one, two, one), asked, strict=True)]
    assert verdicts == [True, True, False]
    two.log(asked[1])
    assert one.limit.take(asked[2], 0) is None


@pytest.mark.parametrize("key", [[], ["route", "route"]])
def test_a_key_without_sense_is_refused(key):
    with pytest.raises(ConfigError):
        concurrency_limit.build(Config(limit=1, key=key), BuildContext("lone"))


def test_explain():
    built = concurrency_limit.build(Config(limit=5, key=["consumer", "route"]), BuildContext("lone"))
    assert built.explain == "5 at once, for each consumer and route"
