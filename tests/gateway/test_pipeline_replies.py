"""The end of an exchange's way: reply hooks on every reply, and one record of every exchange."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

import orjson
import pytest

from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import Hooks, Reply
from gatewayd.observe import metrics
from tests.gateway.hooks import BROKEN, FINE, REFUSAL, guarded, recorded
from tests.support.edge import EdgeThread, noted, proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream, answer

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


SWITCHED = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\nserver: x\r\n\r\n"
ASKING = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


def tunnelling(peer: Peer) -> None:
    """A script that switches protocols and echoes."""
    peer.read_head()
    peer.send(SWITCHED)
    with contextlib.suppress(OSError):
        while data := peer.sock.recv(1000):
            peer.send(data)


def test_reply_hooks_run_on_an_upgrade_too(monkeypatch):
    with ScriptedUpstream(tunnelling) as up:
        made = guarded(monkeypatch, proxied(up.port), one=Hooks(reply=mark))
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.send(ASKING)
            head = caller.sock.recv(1000)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nx-marked: 101\r\n" in head
            caller.send(b"hello")
            assert caller.sock.recv(1000) == b"hello"


def test_an_upgrade_whose_reply_hook_fails_is_none(monkeypatch, caplog):
    with ScriptedUpstream(tunnelling) as up:
        made = guarded(monkeypatch, proxied(up.port), one=Hooks(reply=fail_at_reply))
        with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.send(ASKING)
            assert caller.to_end() == b""
            edge.until(lambda: edge.edge.connections == 0)
            (target,) = edge.edge._upstreams["up"].targets
            assert (target.in_flight, target.pool.open) == (0, 0)
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
        assert noted(recorded(edge)) == {"failed:one": 1}


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
        edge.until(lambda: edge.totals().routes["all"].classes[FINE] == 200)
        assert len(trace.logged) == 200
