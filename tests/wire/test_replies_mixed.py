"""Nobody gets another's reply: many callers at once, before an upstream that misbehaves at random."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import h11

from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import Peer, ScriptedUpstream

CALLERS, REQUESTS = 12, 60


def respond(peer: Peer, method: bytes, token: bytes, dice: random.Random) -> bool:
    """Answer well or badly; False to close the connection."""
    body = b"" if method == b"HEAD" else token
    head = b"HTTP/1.1 200 OK\r\nx-token: %b\r\n" % token
    sized = head + b"content-length: %d\r\n\r\n" % len(token)
    chunked = head + b"transfer-encoding: chunked\r\n\r\n" + (b"%x\r\n%b\r\n" % (len(token), token) if body else b"")
    wrong = b"HTTP/1.1 200 OK\r\nx-token: wrong\r\ncontent-length: 5\r\n\r\nwrong"
    good: list[bytes] = [
        sized + body,
        chunked + (b"0\r\n\r\n" if body else b""),
        b"HTTP/1.1 100 Continue\r\n\r\n" + sized + body,
    ]
    final: list[bytes] = [
        b"", b"HTTP/1.1 200", sized[:-2], sized + body[:3], chunked, head + b"\r\n" + body,  # then closed
        head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(token) + body,
    ]  # fmt: skip
    surplus: list[bytes] = [
        sized + token + wrong, chunked + b"0\r\n\r\n" + wrong, sized[:-2] + b"content-length: 5\r\n\r\n" + body + wrong,
        sized[:-2] + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + wrong, b"HTTP/1.1 204 No Content\r\n\r\n" + wrong,
        b"HTTP/1.1 503 Busy\r\ncontent-length: 1\r\n\r\n!",
        b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n" + wrong, wrong[:20] + b"\n\n" + wrong,
    ]  # fmt: skip
    kind = dice.random()
    if kind < 0.05:
        threading.Event().wait(0.25)  # about when the service's timeout passes: what is late must reach nobody
        peer.send(sized + body)
        return True
    if kind < 0.5:
        peer.send(dice.choice(good))
        return True
    if kind < 0.75:
        peer.send(dice.choice(surplus))
        return True
    peer.send(dice.choice(final))
    if dice.random() < 0.3:
        peer.reset()
    return False


def misbehaving(peer: Peer) -> None:
    """Answers one request after the other until one goes wrong, or the edge has had enough."""
    dice = random.Random(peer.number)
    while head := peer.read_head():
        method, token = head.split(b" ")[:2]
        if b"content-length: 4" in head and peer.read(4) != b"body":
            return
        if not respond(peer, method, token, dice):
            return


class Client:
    """One caller: sends requests with tokens of its own, leaves at random, and counts what it sees."""

    def __init__(self, port: int, number: int, seen: Counter[str]) -> None:
        self.port, self.number, self.seen = port, number, seen
        self.dice = random.Random(1000 + number)
        self.wrong: list[str] = []

    def run(self) -> None:
        """Make all requests."""
        count = 0
        while count < REQUESTS:
            with Caller(self.port) as caller:
                going_on = True
                while going_on and count < REQUESTS:
                    going_on = self.request(caller, f"/{self.number}-{count}")
                    count += 1

    def request(self, caller: Caller, token: str) -> bool:
        """One request; whether the connection can go on."""
        method = self.dice.choice(["GET", "GET", "HEAD", "POST", "PUT"])
        body = "content-length: 4\r\n\r\nbody" if method in ("POST", "PUT") else "\r\n"
        try:
            caller.send(f"{method} {token} HTTP/1.1\r\nhost: a\r\n{body}".encode())
            if self.dice.random() < 0.1:
                return self.leave(caller)
            answer = caller.answer(method)
        except (h11.RemoteProtocolError, ConnectionError):
            self.seen["aborted"] += 1
            return False
        self.seen[f"{answer.status} {answer.code}"] += 1
        expected = {"GET": token, "POST": token, "PUT": token, "HEAD": ""}[method]
        if answer.status == 200 and (answer.headers["x-token"], answer.body.decode()) != (token, expected):
            self.wrong.append(f"{method} {token}: {answer}")
        return answer.headers.get("connection") != "close"

    def leave(self, caller: Caller) -> bool:
        """Go away without waiting for the reply."""
        self.seen["left"] += 1
        if self.dice.random() < 0.5:
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        return False


def test_no_request_is_answered_with_anothers_reply() -> None:
    seen: Counter[str] = Counter()
    with ScriptedUpstream(misbehaving) as up:
        document = proxied(up.port, timeouts={"connect": "60ms", "first_byte": "200ms"}, retries={"statuses": [503]})
        document["upstreams"]["up"] |= {
            "pool": {"connections": 4},  # fewer than callers: connections are handed on while others wait for them
            "passive_health": {"enabled": False},
            "breaker": {"enabled": False},
        }
        with EdgeThread(document) as edge:
            clients = [Client(edge.port, number, seen) for number in range(CALLERS)]
            with ThreadPoolExecutor(CALLERS) as crowd:
                for running in [crowd.submit(client.run) for client in clients]:
                    running.result()
            assert [wrong for client in clients for wrong in client.wrong] == []
            assert seen["200 "] > CALLERS * REQUESTS / 4, seen
            assert seen["502 malformed_reply"], seen
            assert seen["aborted"], seen
            nothing_is_held(up, edge)


def nothing_is_held(up: ScriptedUpstream, edge: EdgeThread) -> None:
    """Every connection is free or closed again, and no attempt is counted as under way."""
    group = edge.edge._upstreams["up"]
    up.wait_for(lambda: edge.edge.connections == 0)
    for target in group.targets:
        up.wait_for(lambda pool=target.pool: pool.open == len(pool.idle))
        up.wait_for(lambda target=target: target.in_flight == 0)
