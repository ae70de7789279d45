"""What the policy `capture` leaves for the recorder, seen by a policy behind all others; and calls to capture."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import pytest

from gatewayd import policies
from gatewayd.audit.record import CAPTURED, Captured
from gatewayd.core.policy import Hooks
from tests.support.edge import EdgeThread, proxied
from tests.support.policies import policy
from tests.support.upstream import Peer

ALL = {"request_headers": ["*"], "reply_headers": ["*"], "query": True, "request_body": "1KiB", "reply_body": "1KiB"}
JSON = b"content-type: application/json\r\n"
BODY = b'{"name":"Ann","password":"s3cr3t"}'
HIDDEN = b'{"name":"Ann","password":"[redacted]"}'


class Spy:
    """What is captured of each exchange when it is over: None where nothing is."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any]] = []

    def log(self, exchange: Any) -> None:
        """A log hook."""
        self.seen.append((exchange.status, (exchange.context or {}).get(CAPTURED)))

    def one(self, edge: EdgeThread) -> Captured:
        """What was captured of the only exchange so far."""
        edge.until(lambda: self.seen)
        ((_, found),) = self.seen
        assert isinstance(found, Captured)
        assert b"s3cr3t" not in orjson.dumps(repr(found))
        return found


def spying(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """A policy behind all others that looks at what is left for the recorder."""
    found = Spy()
    monkeypatch.setitem(sys.modules, "gatewayd.policies.spy", policy(Hooks(log=found.log)))
    monkeypatch.setattr(policies, "ORDER", (*policies.ORDER, "spy"))
    return found


def document(port: int, *more: str, route: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Proxies everything, with `capture` of all there is, or with `options`; `more` are other instances."""
    found = proxied(port)
    found["routes"]["all"] |= {"policies": ["evidence", "spy", *more], **(route or {})}
    found["policies"] = {"evidence": {"policy": "capture", **(options or ALL)}, "spy": {}}
    return found


def echoing(peer: Peer) -> None:
    """Answers with the body it gets, of a Content-Length."""
    while head := peer.read_head():
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length" in head else 0
        body = peer.read(length)
        peer.send(
            b"HTTP/1.1 200 OK\r\n" + JSON + b"set-cookie: s3cr3t\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )


def post(body: bytes, *lines: bytes, path: bytes = b"/x") -> bytes:
    """A request with `body` and more header lines."""
    head = [b"POST %b HTTP/1.1" % path, b"host: a", JSON.strip(), b"content-length: %d" % len(body), *lines, b"", b""]
    return b"\r\n".join(head) + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    """The same, a chunk for each byte."""
    head = [b"POST /x HTTP/1.1", b"host: a", JSON.strip(), b"transfer-encoding: chunked", *lines, b"", b""]
    pieces = b"".join(b"1\r\n%c\r\n" % each for each in body)
    return b"\r\n".join(head) + pieces + b"0\r\n\r\n"
