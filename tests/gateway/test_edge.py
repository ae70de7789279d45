"""The edge as a whole: generations, what they carry over, listeners that come and go, the sweep."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Hooks
from gatewayd.errors import ConfigError
from gatewayd.gateway.edge import QUICKEST_SWEEP, SWEEP, sweep_interval
from gatewayd.observe import metrics
from tests.support.edge import EdgeThread, proxied
from tests.support.policies import install, policy
from tests.support.raw import Caller
from tests.support.upstream import Peer, ScriptedUpstream
from tests.wire.certificates import Authority


def saying(body: str, **parts: Any) -> dict[str, Any]:
    """A document that answers everything with `body`."""
    return {"routes": {"all": {"path": "/*", "reply": {"body": body}}}, **parts}


def targets(edge: EdgeThread, name: str = "up") -> Any:
    return edge.edge._upstreams[name].targets


def swept(edge: EdgeThread) -> None:
    """One whole sweep, now."""

    def sweep() -> None:
        edge.edge._sweep_timer.cancel()
        edge.edge._sweep()

    edge.call(sweep)


def test_it_tells_of_its_policies_and_pools_and_counts_verdicts_by_mode() -> None:
    def made(mode: str, port: int) -> dict[str, Any]:
        whole = proxied(port)
        whole["routes"]["all"]["policies"] = ["fair", "stored"]
        fair = {"policy": "rate_limit", "rate": "1/h", "mode": mode}
        return {**whole, "policies": {"fair": fair, "stored": {"policy": "cache"}}}

    with ScriptedUpstream() as up, EdgeThread(made("observe", up.port)) as edge, Caller(edge.port) as caller:
        assert [caller.ask().status for _ in range(2)] == [200, 200]
        edge.apply(made("enforce", up.port))
        assert caller.ask().status == 429
        told = orjson.loads(msgspec.json.encode(edge.call(edge.edge.status)))  # as it goes to the supervisor
        edge.call(edge.edge._pipeline.record)
        verdicts = {each[1:]: count for each, count in edge.totals().verdicts.items() if each.instance == "fair"}
        assert verdicts == {("rate_limit", "observe", "observed"): 1, ("rate_limit", "enforce", "refused"): 1}
    assert told["figures"]["fair"] == {"policy": "rate_limit", "mode": "enforce", "keys": 0, "keys_most": 131072}
    assert told["figures"]["stored"].keys() == {"policy", "mode", "entries", "bytes", "bytes_most"}
    (target,) = told["upstreams"]["up"]["targets"]
    assert target["pool"] == {"open": 1, "idle": 1, "busy": 0, "waiting": 0, "dials": 1, "reused": 1}


# -- generations ------------------------------------------------------------------------------------------------------


def test_new_routes_hold_at_once_on_connections_that_are_open() -> None:
    with EdgeThread(saying("one")) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"one"
        edge.apply(saying("two"))
        assert caller.ask().body == b"two"
        edge.apply({"routes": {"some": {"path": "/some", "reply": {}}}})
        assert (caller.ask().status, caller.ask("/some").status) == (404, 200)
        assert edge.edge.status()["generation"] == 3
        edge.call(edge.edge._pipeline.record)
        assert edge.totals().sum(metrics.GENERATION) == 3


def test_an_exchange_ends_on_the_generation_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    go = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await go.wait()

    install(monkeypatch, waits=policy(Hooks(access=wait)))
    old = saying("old", policies={"waits": {}}, gateway={"policies": ["waits"]})
    with EdgeThread(old) as edge, Caller(edge.port) as begun:
        begun.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
        edge.until(lambda: edge.edge.connections == 1)
        edge.apply(saying("new"))
        with Caller(edge.port) as other:
            assert other.ask().body == b"new"
        edge.call(go.set)
        assert [begun.answer().body for _ in range(2)] == [b"old", b"new"]


def test_a_proxied_exchange_goes_on_when_its_upstream_is_gone() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
        peer.read(1)
        peer.send(b"lf")

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n")
        up.wait_for(lambda: bool(up.received))
        (target,) = targets(edge)
        edge.apply(saying("new"))
        assert edge.edge._upstreams == {}
        caller.send(b"x")
        assert caller.answer().body == b"half"
        assert target.in_flight == 0
        assert caller.ask().body == b"new"


def test_connections_to_targets_and_what_is_known_of_them_stay() -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        for generation in range(4):
            assert caller.ask().status == 200
            (target,) = targets(edge)
            assert (target.requests, target.in_flight) == (generation + 1, 0)
            edge.apply(proxied(up.port, timeouts={"idle": f"{generation + 1}s"}))
        assert len(up.peers) == 1
        assert targets(edge)[0].pool.open == 1


def test_a_target_that_is_gone_is_left_when_its_exchanges_had_time_to_end() -> None:
    clock = FakeClock()
    with (
        ScriptedUpstream() as old,
        ScriptedUpstream() as new,
        EdgeThread(proxied(old.port), clock) as edge,
        Caller(edge.port) as caller,
    ):
        assert caller.ask().status == 200
        (gone,) = targets(edge)
        edge.apply(proxied(new.port) | {"gateway": {"drain_timeout": "10s"}})
        assert caller.ask().status == 200
        assert [len(up.peers) for up in (old, new)] == [1, 1]
        clock.advance(9)
        swept(edge)
        assert gone.pool.open == 1
        clock.advance(2)
        swept(edge)
        edge.until(lambda: gone.pool.open == 0)
        assert gone.retired
        assert caller.ask().status == 200
        assert len(new.peers) == 1


def test_names_of_upstreams_that_come_later_are_started_too() -> None:
    """Probes of a new upstream run though the edge started without it."""
    with ScriptedUpstream() as up, EdgeThread(saying("x")) as edge:
        made = proxied(up.port)
        made["upstreams"]["up"]["active_health"] = {"path": "/ready", "interval": "20ms"}
        edge.apply(made)
        up.wait_for(lambda: b"GET /ready" in up.received)


def test_a_refused_document_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with ScriptedUpstream() as up:
        log = tmp_path / "log"
        with EdgeThread(proxied(up.port) | {"access_log": {"path": str(log)}}) as edge, Caller(edge.port) as caller:
            assert caller.ask().status == 200
            before = targets(edge), edge.edge._pipeline.snapshot, edge.edge._pipeline.access_log
            bad = proxied(1)
            bad["routes"]["again"] = bad["routes"]["all"]
            bad["access_log"] = {"path": str(tmp_path / "other")}
            broken_tls = {"certificates": [{"cert": "/no.crt", "key": "/no.key"}]}
            for document in (bad, {**proxied(1), "listeners": {"http": {"tls": broken_tls}}, **_logging_to(tmp_path)}):
                with pytest.raises(ConfigError):
                    edge.apply(document)
            assert (targets(edge), edge.edge._pipeline.snapshot, edge.edge._pipeline.access_log) == before
            assert caller.ask().status == 200
            assert (edge.edge.status()["generation"], len(up.peers)) == (1, 1)
        assert log.read_bytes().count(b"\n") == 2
        assert not (tmp_path / "other").exists(), "nothing is opened for a document that is refused"


def _logging_to(folder: Path) -> dict[str, Any]:
    return {"access_log": {"path": str(folder / "other")}}


def test_policies_keep_what_they_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(config: Any, context: Any) -> Hooks:
        seen = context.keep("seen", list)
        return Hooks(access=lambda exchange: seen.append(exchange.path))

    install(monkeypatch, counts=policy(build))
    counting = {"policies": {"counts": {}}, "gateway": {"policies": ["counts"]}}
    with EdgeThread(saying("x", **counting)) as edge, Caller(edge.port) as caller:
        caller.ask("/1")
        edge.apply(saying("y", **counting))
        caller.ask("/2")
        assert edge.edge._ground.kept["counts", "seen"] == [b"/1", b"/2"]


def test_limits_hold_from_the_next_request_on() -> None:
    with EdgeThread(saying("x")) as edge, Caller(edge.port) as caller:
        assert caller.ask("/" + "a" * 100).status == 200
        edge.apply(saying("x", limits={"target": "50B"}))
        assert caller.ask("/" + "a" * 100).status == 414


# -- the access log ---------------------------------------------------------------------------------------------------


def paths(log: Path) -> list[str]:
    return [orjson.loads(line)["path"] for line in log.read_bytes().splitlines()]


def test_the_access_log_changes_with_the_generation(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    logs = [{"path": str(first)}, {"path": str(second)}, {"enabled": False}, {"path": str(second)}]
    with EdgeThread(saying("x", access_log=logs[0])) as edge, Caller(edge.port) as caller:
        for at, log in enumerate(logs):
            edge.apply(saying("x", access_log=log))
            assert caller.ask(f"/{at}").status == 200
    assert (paths(first), paths(second)) == (["/0"], ["/1", "/3"])


def test_the_access_log_is_opened_anew_on_request(tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "moved"
    with EdgeThread(saying("x", access_log={"path": str(log)})) as edge, Caller(edge.port) as caller:
        assert caller.ask("/before").status == 200
        log.rename(moved)
        edge.call(edge.edge.reopen_logs)
        assert caller.ask("/after").status == 200
    assert (paths(moved), paths(log)) == (["/before"], ["/after"])


# -- listeners --------------------------------------------------------------------------------------------------------


def test_listeners_have_their_own_routes_and_settings() -> None:
    made = {
        "listeners": {"in": {}, "out": {"trusted_proxies": ["127.0.0.0/8"]}},
        "routes": {
            "inner": {"path": "/*", "listeners": ["in"], "reply": {"body": "in"}},
            "outer": {"path": "/*", "listeners": ["out"], "reply": {"body": "out"}},
        },
    }
    with EdgeThread(made) as edge:
        for name in ("in", "out"):
            with Caller(edge.ports[name]) as caller:
                assert caller.ask().body == name.encode()


def test_a_listener_comes_with_a_reload() -> None:
    with EdgeThread(saying("x")) as edge:
        edge.document = saying("y", listeners={"http": {}, "more": {}})
        edge.apply(edge.document)
        edge.call(edge.edge.listen, "more", edge.bind("more"))
        for name in ("http", "more"):
            with Caller(edge.ports[name]) as caller:
                assert caller.ask().body == b"y"


def two() -> dict[str, Any]:
    return saying("both", listeners={"http": {}, "more": {}})


def test_connections_of_a_listener_that_goes_get_one_more_reply() -> None:
    with EdgeThread(two()) as edge, Caller(edge.ports["more"]) as caller:
        assert caller.ask().body == b"both"
        edge.apply(saying("one", listeners={"http": {}}))
        edge.call(edge.edge.unlisten, "more")
        found = caller.ask()
        assert (found.body, found.headers["connection"]) == (b"both", "close")
        assert caller.to_end() == b""
        with pytest.raises(ConnectionRefusedError):
            Caller(edge.ports["more"])


def test_idle_connections_of_a_listener_that_goes_are_closed_after_the_grace() -> None:
    clock = FakeClock()
    with EdgeThread(two(), clock) as edge, Caller(edge.ports["more"]) as caller, Caller(edge.ports["http"]) as other:
        assert [each.ask().status for each in (caller, other)] == [200, 200]
        edge.apply(saying("one", listeners={"http": {}}, gateway={"drain_idle_grace": "5s"}))
        clock.advance(4)
        swept(edge)
        assert edge.edge.connections == 2
        clock.advance(2)
        swept(edge)
        assert caller.to_end() == b""
        assert other.ask().body == b"one"
        swept(edge)
        assert edge.edge._parting == []


# -- the sweep --------------------------------------------------------------------------------------------------------


def test_the_sweep_counts_connections_and_what_is_under_way() -> None:
    with ScriptedUpstream(lambda peer: peer.read_to_end() and None) as up, EdgeThread(proxied(up.port)) as edge:
        with Caller(edge.port) as busy, Caller(edge.port) as idle:
            busy.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            idle.send(b"GET")
            edge.until(lambda: edge.edge.connections == 2)
            up.wait_for(lambda: bool(up.received))
            swept(edge)
            found = edge.totals()
            assert [found.sum(each) for each in (metrics.CONNECTIONS_OPEN, metrics.REQUESTS_IN_FLIGHT)] == [2, 1]
            assert found.sum(metrics.CONNECTIONS_ACCEPTED) == 2
        edge.until(lambda: edge.edge.connections < 2)


def test_a_sweep_that_fails_is_told_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), EdgeThread(saying("x", timeouts={"linger": "100ms"})) as edge:
        failed = edge.edge._sweep_upstreams
        calls = []

        def sweep(now: float) -> None:
            calls.append(now)
            if len(calls) == 1:
                raise LookupError("once")
            failed(now)

        edge.edge._sweep_upstreams = sweep  # type: ignore[method-assign]
        edge.until(lambda: len(calls) >= 3)
    assert caplog.text.count("the sweep failed") == 1


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, SWEEP),
        ({"timeouts": {"head": "1s"}}, 0.25),
        ({"timeouts": {"keepalive": "1ms"}}, QUICKEST_SWEEP),
        ({"timeouts": {"linger": "0s"}}, SWEEP),
        ({"services": {"a": {"upstream": "u", "timeouts": {"first_byte": "800ms"}}}}, 0.2),
        ({"services": {"a": {"upstream": "u", "timeouts": {"total": "0s"}}}}, SWEEP),
    ],
)
def test_the_shorter_the_timeouts_the_more_often_it_looks(document: dict[str, Any], expected: float) -> None:
    assert sweep_interval(decode(document)) == pytest.approx(expected)


def test_failed_handshakes_are_counted(tmp_path: Path) -> None:
    made = Authority(tmp_path).issue("a.example")
    tls = {"tls": {"certificates": [{"cert": made.cert, "key": made.key}]}}
    with EdgeThread(saying("x", listeners={"http": tls})) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        caller.to_end()
        edge.until(lambda: edge.totals().sum(metrics.TLS_HANDSHAKES_FAILED) == 1)
        assert edge.edge.connections == 0


def test_the_status_of_a_worker() -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 200
        found = edge.call(edge.edge.status)
        assert (found["generation"], found["connections"], found["draining"]) == (1, 1, False)
        (target,) = found["upstreams"]["up"]["targets"]
        assert (target["address"], target["requests"], target["in_flight"]) == (f"127.0.0.1:{up.port}", 1, 0)
        orjson.dumps(found)


def test_a_stop_ends_connections_on_both_sides() -> None:
    ended = []

    def script(peer: Peer) -> None:
        peer.read_head()
        ended.append(peer.read_to_end())

    with ScriptedUpstream(script) as up:
        with EdgeThread(proxied(up.port)) as edge:
            caller, idle = Caller(edge.port), Caller(edge.port)
            caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            up.wait_for(lambda: bool(up.received))
            edge.until(lambda: edge.edge.connections == 2)
        assert [each.to_end() for each in (caller, idle)] == [b"", b""]
        up.wait_for(lambda: ended == [b""])
        assert edge.edge.connections == 0
        for each in (caller, idle):
            each.sock.close()
