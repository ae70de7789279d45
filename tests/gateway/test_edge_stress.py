"""Many callers and targets that do everything wrong at once: no reply goes astray, and every count comes out even.

What each does is drawn from a seed, so that a failure can be had again; how they meet is the machine's doing.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
from typing import Any

import h11
import pytest

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Hooks
from gatewayd.observe import metrics
from tests.handlers.scenes import closed_port
from tests.support.edge import EdgeThread
from tests.support.policies import install, policy
from tests.support.raw import Caller, leave
from tests.support.upstream import Peer, ScriptedUpstream

CALLERS, TURNS = 10, 20
GONE_WRONG = (h11.RemoteProtocolError, OSError)
GOOD = ("length", "chunked", "pieces", "closing", "retried", "informed", "early")
BAD = ("hangup", "reset", "garbage", "half", "halfhead", "double", "switch", "silent", "surplus", "open")


# -- targets ----------------------------------------------------------------------------------------------------------


def reply_of(kind: str, body: bytes) -> bytes:
    """What a target sends for a request of this kind, all of it."""
    length = b"content-length: %d\r\n" % len(body)
    chunk = b"%x\r\n%b\r\n" % (len(body), body)
    return {
        "length": b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body,
        "early": b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body,
        "pieces": b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body,
        "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\nx-sum: 1\r\n\r\n",
        "closing": b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + length + b"\r\n" + body,
        "informed": b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\n" + length + b"\r\n" + body,
        "retried": b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
        "garbage": b"\0\1\2 nonsense\r\n\r\n",
        "half": b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body[:-1],
        "halfhead": b"HTTP/1.1 200 OK\r\ncontent-len",
        "double": b"HTTP/1.1 200 OK\r\n" + length + b"transfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
        "switch": b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "surplus": b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body + b"HTTP/1.1 200 OK\r\n\r\nnobody asked",
        "open": b"HTTP/1.1 200 OK\r\n\r\n" + body,
    }.get(kind, b"")


def target(peer: Peer) -> None:
    """A script that does with each request what its path says, and echoes the token in it."""
    again = 0
    while head := peer.read_head():
        _, kind, token = head.split(b" ", 2)[1].decode().split("/")[:3]
        body = token.encode() * 50
        if kind != "early" and not _request_read(peer, head):
            return
        if kind == "retried":
            again += 1
            kind = "retried" if again % 2 else "length"
        reply = reply_of(kind, body)
        if kind == "pieces":
            for at in range(0, len(reply), 97):
                peer.send(reply[at : at + 97])
        else:
            peer.send(reply)
        if kind == "silent":
            peer.read_to_end()
        if kind == "reset":
            peer.reset()
        if kind in ("hangup", "reset", "half", "halfhead", "closing", "silent", "open", "early"):
            return


def _request_read(peer: Peer, head: bytes) -> bool:
    length = re.search(rb"content-length: (\d+)", head)
    if length is not None:
        return len(peer.read(int(length[1]))) == int(length[1])
    if b"transfer-encoding" in head:
        with contextlib.suppress(ValueError):
            peer.read_until(b"0\r\n\r\n")
            return True
        return False
    return True


# -- callers ----------------------------------------------------------------------------------------------------------


class Crowd:
    """Callers in threads; `wrong` holds what must not have happened."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.seed = seed
        self.wrong: list[str] = []
        self.answered = 0

    def run(self) -> None:
        threads = [threading.Thread(target=self._turns, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)

    def _turns(self, number: int) -> None:
        draw = random.Random(f"{self.seed}/{number}")
        for turn in range(TURNS):
            with contextlib.suppress(*GONE_WRONG), Caller(self.port) as caller:
                act = draw.choice((self.asks, self.asks, self.asks, self.pipelines, self.uploads, self.goes, self.lies))
                act(caller, draw, f"n{number}t{turn}")

    def check(self, caller: Caller, kind: str, token: str, method: str = "GET") -> None:
        found = caller.answer(method)
        self.answered += 1
        if found.status == 200 and found.body != token.encode() * 50:
            self.wrong.append(f"{kind} {token} was answered {found.body[:60]!r}")
        if kind not in BAD and kind != "retried" and found.status not in (200, 502, 503, 504):
            self.wrong.append(f"{kind} {token}: {found.status}")

    def asks(self, caller: Caller, draw: random.Random, name: str) -> None:
        """One request after the other on one connection."""
        for step in range(draw.randrange(1, 6)):
            kind, token = draw.choice(GOOD + BAD), f"{name}s{step}"
            caller.send(f"GET /{kind}/{token} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
            self.check(caller, kind, token)

    def pipelines(self, caller: Caller, draw: random.Random, name: str) -> None:
        """Several requests at once; sometimes it leaves after a few replies."""
        kinds = [draw.choice(GOOD) for _ in range(draw.randrange(2, 8))]
        lines = [f"GET /{kind}/{name}p{at} HTTP/1.1\r\nhost: a\r\n\r\n" for at, kind in enumerate(kinds)]
        caller.send("".join(lines).encode())
        for at, kind in enumerate(kinds[: draw.randrange(len(kinds) + 1)]):
            self.check(caller, kind, f"{name}p{at}")
        if draw.random() < 0.5:
            leave(caller)

    def uploads(self, caller: Caller, draw: random.Random, name: str) -> None:
        """A body in pieces, known length or chunked; sometimes not all of it."""
        kind, size = draw.choice((*GOOD, *BAD)), draw.choice((1, 1_000, 200_000))
        method = draw.choice(("PUT", "POST"))
        chunked = draw.random() < 0.5
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
        caller.send(f"{method} /{kind}/{name} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n".encode())
        rest = size
        while rest:
            piece = min(rest, draw.choice((7, 1_000, 70_000)))
            caller.send(b"%x\r\n%b\r\n" % (piece, b"x" * piece) if chunked else b"x" * piece)
            rest -= piece
            if draw.random() < 0.05:
                leave(caller)
                return
        if chunked:
            caller.send(b"0\r\n\r\n")
        self.check(caller, kind, name, method)

    def goes(self, caller: Caller, draw: random.Random, name: str) -> None:
        """Leaves at once, after a piece of the reply, or politely."""
        kind = draw.choice(GOOD + BAD)
        caller.send(f"GET /{kind}/{name} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        how = draw.randrange(3)
        if how == 1:
            caller.sock.recv(draw.randrange(1, 200))
        if how == 2:
            caller.sock.shutdown(socket.SHUT_WR)
            caller.to_end()
        else:
            leave(caller)

    def lies(self, caller: Caller, draw: random.Random, name: str) -> None:
        """Breaks the rules, at once or in the middle of a body."""
        caller.send(
            draw.choice(
                (
                    b"nonsense\r\n\r\n",
                    b"GET / HTTP/1.1\r\n\r\n",
                    b"PUT /length/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloo\r\n",
                    b"PUT /length/x HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\nx",
                    b"GET /length/x HTTP/1.1\r\nhost: a\r\n",
                )
            )
        )
        if draw.random() < 0.5:
            caller.sock.shutdown(socket.SHUT_WR)
            caller.to_end()


# -- the edge between them --------------------------------------------------------------------------------------------


def document(*ports: int) -> dict[str, Any]:
    """Few connections, short waits, everything tried again: so that all of it happens."""
    return {
        "upstreams": {
            "up": {
                "targets": [{"address": f"127.0.0.1:{port}"} for port in ports],
                "pool": {"connections": 3, "queue": 3, "idle_connections": 2, "requests_per_connection": 5},
                "passive_health": {"failures": 4, "eject": "100ms", "max_ejected": 0.5},
                "breaker": {"enabled": False},
            }
        },
        "services": {
            "up": {
                "upstream": "up",
                "timeouts": {"connect": "300ms", "first_byte": "200ms", "idle": "300ms", "total": "2s"},
                "retries": {"attempts": 3, "statuses": [503], "budget_min": 10_000, "body": "4KiB"},
            }
        },
        "routes": {"all": {"path": "/*", "service": "up", "body": "500KiB"}},
        "timeouts": {"head": "1s", "linger": "200ms"},
        "policies": {"counts": {}},
        "gateway": {"policies": ["counts"]},
    }


def settled(edge: EdgeThread) -> bool:
    """Whether nothing is under way any more."""
    quiet = edge.edge.connections == 0
    for each in edge.edge._upstreams["up"].targets:
        quiet = quiet and each.in_flight == 0 and each.pool.open == len(each.pool.idle)
    return quiet


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_or_mixed_up_or_counted_twice(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    begun: list[Exchange] = []
    logged: list[Exchange] = []
    install(monkeypatch, counts=policy(Hooks(access=begun.append, log=logged.append)))
    with closed_port() as dead, ScriptedUpstream(target) as one, ScriptedUpstream(target) as two:
        with EdgeThread(document(dead, one.port, two.port)) as edge:
            crowd = Crowd(edge.port, seed)
            crowd.run()
            edge.until(lambda: settled(edge))
            edge.call(edge.edge._pipeline.record)
            found = edge.totals()
        assert crowd.wrong == []
        assert crowd.answered > CALLERS * TURNS / 4
        # Every exchange has its record, and no more than one.
        assert len({id(exchange) for exchange in logged}) == len(logged)
        refused = [exchange for exchange in logged if exchange.code == "body_too_large"]  # before any policy is asked
        assert {id(exchange) for exchange in begun + refused} == {id(exchange) for exchange in logged}
        assert sum(found.routes["all"].classes) == len(logged)
        assert found.sum(metrics.CONNECTIONS_ACCEPTED) == CALLERS * TURNS
        # Everybody who was let in was let out.
        assert (edge.edge._tally.open, edge.edge._tally.by_address) == (0, {})
        requests = sum(each.requests for each in edge.edge._upstreams["up"].targets)
        assert requests <= found.routes["all"].attempts
    for up in (one, two):
        assert up.errors == []
