"""The way of an exchange, over real sockets: policies in their turn, whatever they do, and the record at the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import h11
import orjson
import pytest

from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import Hooks, Reply
from gatewayd.core.problem import problem
from gatewayd.observe import metrics
from tests.support.edge import EdgeThread, proxied
from tests.support.policies import install, policy
from tests.support.raw import Caller, leave
from tests.support.upstream import OK, Peer, ScriptedUpstream, answer

FINE, REFUSED, GONE = (metrics.CLASSES.index(name) for name in ("2xx", "4xx", "499"))
BROKEN = (h11.RemoteProtocolError, ConnectionResetError)
REFUSAL = problem(403, "not_you", "you are not let in")


class Trace:
    """Makes hooks that write down in which order they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.logged: list[tuple[str, int, str]] = []  # path, status, reason

    def access(self, name: str, verdict: Reply | None = None) -> Any:
        def hook(exchange: Exchange) -> Reply | None:
            self.ran.append(name)
            return verdict

        return hook

    def waiting(self, name: str, verdict: Reply | None = None, until: asyncio.Event | None = None) -> Any:
        async def hook(exchange: Exchange) -> Reply | None:
            self.ran.append(name)
            if until is not None:
                await until.wait()
            else:
                await asyncio.sleep(0)
            self.ran.append(f"{name} done")
            return verdict

        return hook

    def failing(self, name: str) -> Any:
        def hook(exchange: Exchange) -> Reply | None:
            self.ran.append(name)
            raise LookupError(name)

        return hook

    def log(self, exchange: Exchange) -> None:
        self.logged.append((exchange.path.decode(), exchange.status, exchange.reason))


@pytest.fixture
def trace() -> Trace:
    return Trace()


STATIC = {"routes": {"all": {"path": "/*", "reply": {"body": "static"}}}}


def guarded(monkeypatch: pytest.MonkeyPatch, base: dict[str, Any] | None = None, **hooks: Hooks) -> dict[str, Any]:
    """A document whose only route has an instance of each made-up policy on it, in this order."""
    install(monkeypatch, **{name: policy(each) for name, each in hooks.items()})
    base = base or STATIC
    routes = {name: {**route, "policies": list(reversed(hooks))} for name, route in base["routes"].items()}
    return {**base, "routes": routes, "policies": {name: {} for name in hooks}}


def recorded(edge: EdgeThread) -> metrics.Totals:
    edge.call(edge.edge._pipeline.record)
    return edge.totals()


# -- access -----------------------------------------------------------------------------------------------------------


def test_hooks_run_in_their_order_and_then_the_handler(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one")), two=Hooks(trace.access("two")), none=Hooks())
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert trace.ran == ["one", "two"]


def test_the_first_refusal_is_the_last_word(monkeypatch, trace):
    made = guarded(
        monkeypatch,
        one=Hooks(trace.access("one")),
        two=Hooks(trace.access("two", REFUSAL)),
        three=Hooks(trace.access("three", problem(401, "another"))),
    )
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (403, "not_you")
        assert trace.ran == ["one", "two"]
        tokens = recorded(edge).tokens
        assert tokens[metrics.VERDICTS] == {"refused:two": 1}
        assert tokens[metrics.REFUSALS] == {"not_you": 1}


def test_an_answer_that_is_no_refusal_is_noted_as_one(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one", Reply(204))))
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 204
        found = recorded(edge)
        assert found.tokens[metrics.VERDICTS] == {"answered:one": 1}
        assert found.tokens[metrics.REFUSALS] == {}


def test_a_policy_that_cannot_run_refuses(monkeypatch, trace, caplog):
    made = guarded(monkeypatch, one=Hooks(trace.failing("one")), two=Hooks(trace.access("two")))
    with caplog.at_level(logging.ERROR), EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (500, "policy_failed")
        assert b"LookupError" not in found.body
        assert recorded(edge).tokens[metrics.VERDICTS] == {"failed:one": 1}
    assert trace.ran == ["one"]
    assert "policy one failed" in caplog.text


@pytest.mark.parametrize("common", [{"mode": "observe"}, {"failure": "open"}])
def test_a_policy_that_only_watches_or_fails_open_lets_pass(monkeypatch, trace, common, caplog):
    made = guarded(monkeypatch, one=Hooks(trace.failing("one")), two=Hooks(trace.access("two")))
    made["policies"]["one"] = common
    with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert trace.ran == ["one", "two"]
        assert recorded(edge).tokens[metrics.VERDICTS] == {"failed:one": 1}


def test_what_an_observer_would_have_refused_is_recorded(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one", REFUSAL)))
    made["policies"]["one"] = {"mode": "observe"}
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 200
        found = recorded(edge)
        assert found.tokens[metrics.VERDICTS] == {"observed:one": 1}
        assert found.tokens[metrics.REFUSALS] == {}


# -- hooks that wait --------------------------------------------------------------------------------------------------


def test_hooks_that_wait_take_their_turn_too(monkeypatch, trace):
    made = guarded(
        monkeypatch,
        a=Hooks(trace.access("a")),
        b=Hooks(trace.waiting("b")),
        c=Hooks(trace.access("c")),
        d=Hooks(trace.waiting("d")),
        e=Hooks(trace.access("e")),
    )
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert trace.ran == ["a", "b", "b done", "c", "d", "d done", "e"]


@pytest.mark.parametrize("position", range(3))
def test_any_of_them_may_refuse(monkeypatch, trace, position):
    hooks = [Hooks(trace.waiting(str(at), REFUSAL if at == position else None)) for at in range(3)]
    made = guarded(monkeypatch, **{f"p{at}": each for at, each in enumerate(hooks)})
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (403, "not_you")
        assert [name for name in trace.ran if "done" not in name] == [str(at) for at in range(position + 1)]
        assert recorded(edge).tokens[metrics.VERDICTS] == {f"refused:p{position}": 1}


@pytest.mark.parametrize("first", ["waits", "at once"])
def test_a_policy_that_fails_after_another_waited(monkeypatch, trace, first, caplog):
    async def fail(exchange: Exchange) -> None:
        await asyncio.sleep(0)
        raise LookupError

    failing = fail if first == "waits" else trace.failing("x")
    made = guarded(monkeypatch, a=Hooks(trace.waiting("a")), b=Hooks(failing))
    with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().code == "policy_failed"
        assert recorded(edge).tokens[metrics.VERDICTS] == {"failed:b": 1}


def test_a_body_and_a_next_request_wait_with_it(monkeypatch, trace):
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            body = peer.read(10) if b"content-length" in head else b"none"
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    go = asyncio.Event()
    with ScriptedUpstream(script) as up:
        made = guarded(monkeypatch, proxied(up.port), one=Hooks(trace.waiting("one", until=go)))
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello")
            edge.until(lambda: trace.ran == ["one"])
            caller.send(b"worldGET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert up.peers == []
            edge.call(go.set)
            assert [caller.answer().body for _ in range(2)] == [b"helloworld", b"none"]


def test_a_body_that_is_too_large_ends_the_waiting(monkeypatch, trace):
    go = asyncio.Event()
    made = guarded(monkeypatch, one=Hooks(trace.waiting("one", until=go)), two=Hooks(trace.access("two")))
    made["routes"]["all"]["body"] = "3B"
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert caller.answer().code == "body_too_large"
        edge.call(go.set)
        edge.until(lambda: "one done" in trace.ran)
        assert "two" not in trace.ran
        assert recorded(edge).routes["all"].classes[REFUSED] == 1


def test_when_the_caller_has_left_nothing_more_is_asked_or_done(monkeypatch, trace):
    go = asyncio.Event()
    with ScriptedUpstream() as up:
        waiting = Hooks(trace.waiting("one", REFUSAL, go), log=trace.log)
        made = guarded(monkeypatch, proxied(up.port), one=waiting, two=Hooks(trace.access("two")))
        with EdgeThread(made) as edge:
            with Caller(edge.port) as caller:
                caller.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
                edge.until(lambda: trace.ran == ["one"])
                leave(caller)
            edge.until(lambda: edge.edge.connections == 0)
            edge.call(go.set)
            edge.until(lambda: trace.ran == ["one", "one done"])
            found = recorded(edge)
            assert found.routes["all"].classes[GONE] == 1
            assert found.tokens[metrics.REFUSALS] == {}
            assert trace.logged == [("/x", 499, "caller_gone")]
            assert up.peers == []


# -- limits and misses ------------------------------------------------------------------------------------------------


def test_a_body_beyond_the_routes_limit_is_refused_before_anyone_is_asked(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one")))
    made["routes"]["all"]["body"] = "3B"
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n")
        found = caller.answer()
        assert (found.status, found.code) == (413, "body_too_large")
        assert trace.ran == []


@pytest.mark.parametrize(("limit", "size", "status"), [("3B", 3, 200), ("3B", 4, 413), (0, 100_000, 200)])
def test_limits_are_inclusive_and_0_is_none(limit, size, status):
    made = {"routes": {"all": {"path": "/*", "body": limit, "reply": {}}}, "limits": {"body": "10B"}}
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        assert caller.answer().status == status


def test_what_matches_nothing():
    made = {"routes": {"get": {"path": "/a", "methods": ["GET", "PUT"], "reply": {}}}}
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        missing = caller.ask("/b")
        assert (missing.status, missing.code) == (404, "route_not_found")
        wrong = caller.ask("/a", method="DELETE")
        assert (wrong.status, wrong.code) == (405, "method_not_allowed")
        assert {each.strip() for each in wrong.headers["allow"].split(",")} >= {"GET", "PUT"}
        found = recorded(edge)
        assert found.routes[""].classes[REFUSED] == 2
        assert found.tokens[metrics.REFUSALS] == {"route_not_found": 1, "method_not_allowed": 1}


def test_preflights_are_answered_by_the_route_they_ask_for():
    made = {
        "routes": {"post": {"path": "/a", "methods": ["POST"], "reply": {}, "policies": ["cors"]}},
        "policies": {"cors": {"origins": ["https://portal.example"]}},
    }
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        asking = ("origin: https://portal.example", "access-control-request-method: POST")
        found = caller.ask("/a", *asking, method="OPTIONS")
        assert (found.status, found.headers["access-control-allow-origin"]) == (204, "https://portal.example")
        assert caller.ask("/a", asking[0], method="OPTIONS").status == 405


# -- replies ----------------------------------------------------------------------------------------------------------


def mark(exchange: Exchange, headers: Headers) -> None:
    headers.append((b"x-marked", b"%d" % exchange.status))


def test_reply_hooks_run_on_every_reply_of_the_route(monkeypatch, trace):
    def refuse_some(exchange: Exchange) -> Reply | None:
        return REFUSAL if exchange.path == b"/refused" else None

    with ScriptedUpstream(answer(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")) as up:
        base = proxied(up.port)
        base["upstreams"]["dead"] = {"targets": [{"address": "127.0.0.1:1"}]}
        base["services"]["dead"] = {"upstream": "dead", "retries": {"attempts": 0}}
        base["routes"] |= {
            "static": {"path": "/static", "reply": {"status": 418}},
            "moved": {"path": "/moved", "redirect": {"to": "/x", "status": 307}},
            "dead": {"path": "/dead", "service": "dead"},
        }
        with EdgeThread(guarded(monkeypatch, base, one=Hooks(refuse_some, mark))) as edge, Caller(edge.port) as caller:
            paths = ("/", "/refused", "/static", "/moved", "/dead")
            found = {path: caller.ask(path) for path in paths}
            assert {path: each.headers["x-marked"] for path, each in found.items()} == {
                "/": "201",
                "/refused": "403",
                "/static": "418",
                "/moved": "307",
                "/dead": "502",
            }


def fail_at_reply(exchange: Exchange, headers: Headers) -> None:
    raise LookupError


@pytest.mark.parametrize(
    "reply",
    [OK, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\n\r\nopen"],
    ids=["complete", "unfinished", "open"],
)
def test_a_reply_hook_that_fails_breaks_the_reply_off(monkeypatch, caplog, reply):
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(reply)
        peer.read_to_end()
        ended.set()

    with ScriptedUpstream(script) as up:
        made = guarded(monkeypatch, proxied(up.port), one=Hooks(reply=fail_at_reply))
        with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge:
            with Caller(edge.port) as caller:
                caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                assert caller.to_end() == b""
            (target,) = edge.edge._upstreams["up"].targets
            if reply is not OK:
                assert ended.wait(20), "what nobody waits for is not read to its end"
                assert target.pool.open == 0
            assert target.in_flight == 0
            assert recorded(edge).tokens[metrics.FAILURES] == {"reply_hook_failed": 1}


def test_a_reply_hook_that_fails_on_a_refusal_breaks_that_off(monkeypatch, trace, caplog):
    made = guarded(monkeypatch, one=Hooks(trace.access("one", REFUSAL), fail_at_reply))
    with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
        assert caller.to_end() == b""
        edge.until(lambda: edge.edge.connections == 0)
        found = recorded(edge)
        assert found.tokens[metrics.FAILURES] == {"reply_hook_failed": 1}
        assert sum(found.routes["all"].classes) == 1, "the request behind it is not answered"


def test_a_reply_hook_that_fails_open_does_not(monkeypatch, caplog):
    made = guarded(monkeypatch, one=Hooks(reply=fail_at_reply))
    made["policies"]["one"] = {"failure": "open"}
    with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert recorded(edge).tokens[metrics.VERDICTS] == {"failed:one": 1}


# -- the record -------------------------------------------------------------------------------------------------------


def test_every_exchange_is_logged_exactly_once_however_it_ends(monkeypatch, trace, tmp_path):
    """Answered, refused, failed, broken off by either side, or given up: one call of the log hook and one line each."""

    def script(peer: Peer) -> None:
        while head := peer.read_head():
            path = head.split(b" ")[1]
            if path == b"/ok":
                peer.send(OK)
            elif path == b"/broken":
                peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
                return
            elif path == b"/malformed":
                peer.send(b"nonsense\r\n\r\n")
                return
            else:
                peer.read_to_end()

    def refuse_some(exchange: Exchange) -> Reply | None:
        return REFUSAL if exchange.path == b"/refused" else None

    log = tmp_path / "access.log"
    with ScriptedUpstream(script) as up:
        base = proxied(up.port, retries={"attempts": 0}) | {"access_log": {"path": str(log)}}
        made = guarded(monkeypatch, base, one=Hooks(refuse_some, log=trace.log))
        made["routes"]["all"]["body"] = "10B"
        with EdgeThread(made) as edge:
            for path in ("/ok", "/refused", "/malformed", "/ok"):
                with Caller(edge.port) as caller:
                    caller.ask(path)
            with Caller(edge.port) as caller, pytest.raises(BROKEN):
                caller.ask("/broken")
            with Caller(edge.port) as caller:
                caller.send(b"PUT /gone HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
                up.wait_for(lambda: b"half" in up.received)
            for body in (b"zz\r\n", b"14\r\n" + b"x" * 20):
                with Caller(edge.port) as caller:
                    caller.send(b"PUT /chunks HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + body)
                    caller.answer()
            edge.until(lambda: edge.edge.connections == 0)
            held = Caller(edge.port)
            held.send(b"GET /stopped HTTP/1.1\r\nhost: a\r\n\r\n")
            edge.until(lambda: edge.edge.connections == 1)
            up.wait_for(lambda: b"/stopped" in up.received)
        held.sock.close()
    expected = [
        ("/broken", 200, "closed_in_reply"),
        ("/chunks", 400, ""),
        ("/chunks", 413, ""),
        ("/gone", 499, "caller_gone"),
        ("/malformed", 502, "malformed_reply"),
        ("/ok", 200, ""),
        ("/ok", 200, ""),
        ("/refused", 403, ""),
        ("/stopped", 499, "caller_gone"),
    ]
    assert sorted(trace.logged) == expected
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    assert sorted((line["path"], line["status"], line.get("reason", "")) for line in lines) == expected
    assert [line["verdicts"] for line in lines if line["path"] == "/refused"] == [{"one": "refused"}]
    totals = edge.totals().routes["all"]
    assert sum(totals.classes) == len(expected)


def test_requests_too_malformed_for_a_route_are_recorded_too(tmp_path: Path):
    log = tmp_path / "access.log"
    with EdgeThread({"routes": {}, "access_log": {"path": str(log)}}) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"nonsense\r\n\r\n")
            assert caller.answer().code == "malformed_request"
        with Caller(edge.port) as caller:
            caller.send(b"GET / HTTP/1.1\r\n\r\n")
            assert caller.answer().code == "host_missing"
        assert recorded(edge).tokens[metrics.REFUSALS] == {"malformed_request": 1, "host_missing": 1}
    assert [orjson.loads(line)["code"] for line in log.read_bytes().splitlines()] == [
        "malformed_request",
        "host_missing",
    ]


def test_a_log_hook_that_fails_stops_nothing(monkeypatch, trace, caplog):
    def fail(exchange: Exchange) -> None:
        raise LookupError("no room")

    made = guarded(monkeypatch, one=Hooks(log=fail), two=Hooks(log=trace.log))
    with caplog.at_level(logging.ERROR), EdgeThread(made) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            assert caller.ask("/x").status == 200
        assert recorded(edge).routes["all"].classes[FINE] == 3
    assert trace.logged == [("/x", 200, "")] * 3
    assert caplog.text.count("a log hook of route all failed") == 3


def test_records_are_made_in_batches_and_at_the_latest_by_the_sweep(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(log=trace.log))
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n" * 200)
        assert [caller.answer().status for _ in range(200)] == [200] * 200
        edge.until(lambda: len(trace.logged) == 200)
        assert edge.totals().routes["all"].classes[FINE] == 200
