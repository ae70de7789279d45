"""What the tests of forwarding share: documents with several targets, and what must hold when all is over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

from gatewayd.gateway.dial import Dialler
from gatewayd.observe import metrics
from gatewayd.upstream.target import Target
from gatewayd.wire.upstream import UpstreamConnection
from tests.support.edge import EdgeThread
from tests.support.upstream import Peer

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def post(body: bytes = b"hello", method: bytes = b"POST") -> bytes:
    """A request with a body of known length."""
    return b"%b / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (method, len(body), body)


def document(*ports: int, upstream: Any = None, **service: Any) -> dict[str, Any]:
    """Everything to these ports of 127.0.0.1, in turn; nothing is ejected, and no breaker opens, unless asked for."""
    return {
        "upstreams": {
            "up": {
                "targets": [{"address": f"127.0.0.1:{port}"} for port in ports],
                "balance": "round_robin",
                "passive_health": {"enabled": False},
                "breaker": {"enabled": False},
            }
            | (upstream or {})
        },
        "services": {"up": {"upstream": "up", **service}},
        "routes": {"all": {"path": "/*", "service": "up"}},
    }


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port where connecting is refused."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def saying(reply: bytes, then: Callable[[Peer], None] = lambda peer: None) -> Callable[[Peer], None]:
    """A script: read a request's head, send `reply`, do what comes `then`."""

    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.send(reply)
            then(peer)

    return script


def targets(edge: EdgeThread) -> tuple[Target, ...]:
    """The targets of the upstream `up`."""
    return edge.edge._upstreams["up"].targets


def settled(edge: EdgeThread) -> None:
    """Nothing is under way: no attempt in flight, no connection but idle ones, nobody in a line."""
    for target in targets(edge):
        assert target.in_flight == 0, target
        assert target.pool.open == len(target.pool.idle), target.pool
        assert not [waiter for waiter in target.pool._waiting if not waiter.gone]


def sweep(edge: EdgeThread) -> None:
    """One sweep at the present time."""
    edge.call(lambda: edge.edge._sweep_connections(edge.edge._clock.monotonic()))


def recorded(edge: EdgeThread) -> metrics.Totals:
    """The metrics, with all that has ended so far."""
    edge.call(edge.edge._pipeline.record)
    return edge.totals()


def reasons(edge: EdgeThread) -> dict[str, int]:
    """Why exchanges failed, and how often."""
    return recorded(edge).tokens[metrics.FAILURES]


class Gate:
    """Holds dials to one port back until it is opened: `monkeypatch.setattr(Dialler, "_open", gate.dial)`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.waiting = 0
        self.error: OSError | None = None
        """What a dial that was held back ends in, instead of a connection."""
        self._opened = asyncio.Event()
        self._dial = Dialler._open

    @property
    def dial(self) -> Any:
        """In the place of `Dialler._open`."""
        gate = self

        async def dial(dialler: Dialler, connection: UpstreamConnection, target: Target) -> None:
            if target.port == gate.port and not gate._opened.is_set():
                gate.waiting += 1
                await gate._opened.wait()
                if gate.error is not None:
                    raise gate.error
            await gate._dial(dialler, connection, target)

        return dial

    def open(self, edge: EdgeThread) -> None:
        """Let them through."""
        edge.call(self._opened.set)
