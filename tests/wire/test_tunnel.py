"""Upgrades end to end: a WebSocket, another protocol, and how tunnels end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from gatewayd.observe.metrics import CLASSES
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream
from tests.wire.timing import TimedEdge, until

ASK = b"GET /t HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nx-more: 1\r\n\r\n"


def upgrading(port: int, *protocols: str, **service: Any) -> dict[str, Any]:
    """A document whose only route lets callers switch to these protocols."""
    document = proxied(port, **service)
    document["routes"]["all"]["upgrades"] = list(protocols or ["echo"])
    return document


def read_head(caller: Caller) -> bytes:
    """A reply's head, byte by byte: what follows it stays in the socket."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = caller.sock.recv(1)
        assert more, head
        head += more
    return head


@contextmanager
def tunnel(script: Callable[[Peer], None], **service: Any) -> Iterator[tuple[TimedEdge, Caller, Peer]]:
    """A tunnel through an edge: `script` goes on at the target when it stands."""

    def upgrade(peer: Peer) -> None:
        assert b"upgrade: echo\r\n" in peer.read_head()
        peer.send(SWITCH)
        script(peer)

    with ScriptedUpstream(upgrade) as up, TimedEdge(upgrading(up.port, **service)) as edge, Caller(edge.port) as caller:
        caller.send(ASK)
        assert read_head(caller).startswith(b"HTTP/1.1 101 ")
        yield edge, caller, up.peers[0]
        caller.sock.close()
        until(lambda: not edge.callers)
        assert edge.edge._tally.open == 0
        pool = edge.edge._upstreams["up"].targets[0].pool
        assert (pool.open, pool.idle) == (0, [])


def test_a_websocket_from_library_to_library() -> None:
    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with EdgeThread(proxied(server.socket.getsockname()[1])) as edge:
            with connect(f"ws://127.0.0.1:{edge.port}/chat") as caller:
                for message in ("hello", b"\x00\xff" * 10_000, "x" * 300_000):
                    caller.send(message)
                    assert caller.recv() == message
            until(lambda: edge.edge.connections == 0)
            edge.call(edge.edge._record, 0.0)
            assert edge.totals().routes["all"].classes[CLASSES.index("1xx")] == 1
        server.shutdown()
        thread.join()


def test_the_reply_that_switches_says_so_and_carries_the_targets_fields() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCH)

    with ScriptedUpstream(script) as up, EdgeThread(upgrading(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(ASK)
        head = read_head(caller)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        lines = set(head[:-4].lower().split(b"\r\n"))
        assert {b"connection: upgrade", b"upgrade: echo", b"x-more: 1"} <= lines
        assert not any(line.startswith((b"content-length", b"transfer-encoding")) for line in lines)


@pytest.mark.parametrize("protocols", [("echo",), ("*",), ("websocket", "ECHO")])
def test_what_both_sides_send_early_is_not_lost(protocols: tuple[str, ...]) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCH + b"from the target")
        assert peer.read(15) == b"from the caller"

    with (
        ScriptedUpstream(script) as up,
        EdgeThread(upgrading(up.port, *protocols)) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(ASK + b"from the caller")
        read_head(caller)
        assert caller.to_end() == b"from the target"


def test_the_caller_may_end_first_and_hear_on() -> None:
    def script(peer: Peer) -> None:
        assert peer.read_to_end() == b"ping"
        peer.send(b"pong")

    with tunnel(script) as (_, caller, _peer):
        caller.send(b"ping")
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.to_end() == b"pong"


def test_the_target_may_end_first_and_hear_on() -> None:
    heard: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.send(b"pong")
        peer.sock.shutdown(socket.SHUT_WR)
        heard.append(peer.read_to_end())

    with tunnel(script) as (_, caller, _peer):
        assert caller.to_end() == b"pong"
        caller.send(b"ping")
        caller.sock.shutdown(socket.SHUT_WR)
        until(lambda: heard == [b"ping"])


def test_a_caller_that_has_ended_before_the_switch_is_told_of_to_the_target() -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        go_on.wait(20)
        peer.send(SWITCH)
        peer.send(b"heard " + peer.read_to_end())

    with ScriptedUpstream(script) as up, TimedEdge(upgrading(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(ASK + b"ping")
        caller.sock.shutdown(socket.SHUT_WR)
        until(lambda: edge.caller.eof)
        go_on.set()
        assert caller.to_end().endswith(b"\r\n\r\nheard ping")


@pytest.mark.parametrize("side", ["caller", "target"])
def test_a_reset_on_one_side_ends_the_other(side: str) -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        if side == "target":
            peer.read(4)
            peer.reset()
        else:
            peer.read_to_end()
            ended.set()

    with tunnel(script) as (edge, caller, _peer):
        caller.send(b"ping")
        if side == "caller":
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            caller.sock.close()
            assert ended.wait(20)
        else:
            assert caller.to_end() == b""
            until(lambda: not edge.callers)


def test_a_tunnel_lasts_while_bytes_pass_and_no_longer() -> None:
    def script(peer: Peer) -> None:
        while peer.read(4) == b"ping":
            peer.send(b"pong")

    with tunnel(script, timeouts={"tunnel_idle": "60s"}) as (edge, caller, _peer):
        for _ in range(5):
            caller.send(b"ping")
            assert caller.sock.recv(4) == b"pong"
            edge.pass_time(59)
        assert edge.callers
        edge.pass_time(2)
        assert caller.to_end() == b""


def test_what_one_side_does_not_read_the_other_cannot_send() -> None:
    read_on = threading.Event()
    size = 64 * 1024 * 1024
    got = [0]

    def script(peer: Peer) -> None:
        read_on.wait(60)
        while got[0] < size:
            got[0] += len(peer.sock.recv(1 << 20))

    with tunnel(script) as (edge, caller, _peer):
        sent = [0]

        def send() -> None:
            for _ in range(0, size, 1 << 16):
                caller.sock.sendall(bytes(1 << 16))
                sent[0] += 1 << 16

        thread = threading.Thread(target=send)
        thread.start()
        far = edge.caller.sink.far  # type: ignore[union-attr]
        until(lambda: edge.call(far.transport.get_write_buffer_size))
        assert edge.call(far.transport.get_write_buffer_size) < 1 << 20
        assert sent[0] < size
        read_on.set()
        thread.join(20)
        until(lambda: got[0] == size)


def test_the_end_of_a_drain_ends_tunnels() -> None:
    with tunnel(lambda peer: peer.read_to_end() and None) as (edge, caller, _peer):
        edge.call(edge.edge._abort_all)
        assert caller.to_end() == b""


@pytest.mark.parametrize("switch", [SWITCH, SWITCH.replace(b"echo", b"h2c"), b"HTTP/1.1 101 X\r\n\r\n"])
@pytest.mark.parametrize(
    ("protocols", "ask"),
    [
        (["websocket"], ASK),  # asked for, but not of the target
        ([], ASK),
        (["*"], ASK.replace(b"echo", b"h2c")),
        (["*"], ASK.replace(b"connection: upgrade\r\n", b"")),
        (["*"], b"POST /t HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\ncontent-length: 2\r\n\r\nok"),
        (["other"], ASK),
    ],
)
def test_a_target_cannot_switch_unasked(protocols: list[str], ask: bytes, switch: bytes) -> None:
    def script(peer: Peer) -> None:
        assert b"upgrade" not in peer.read_head()
        peer.send(switch)
        peer.read_to_end()

    with ScriptedUpstream(script) as up:
        document = upgrading(up.port)
        document["routes"]["all"]["upgrades"] = protocols
        with EdgeThread(document) as edge, Caller(edge.port) as caller:
            caller.send(ask)
            assert caller.answer().status == 502
            pool = edge.edge._upstreams["up"].targets[0].pool
            until(lambda: pool.open == 0)


def test_a_target_that_declines_answers_as_always() -> None:
    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.send(OK)

    with ScriptedUpstream(script) as up, EdgeThread(upgrading(up.port)) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            caller.send(ASK)
            assert caller.answer().body == b"ok"
        assert len(up.peers) == 1
