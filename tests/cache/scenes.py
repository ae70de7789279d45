"""A gateway with a cache before an origin that counts what it is asked, and answers as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from gatewayd.core.clock import Clock
from gatewayd.rfc.headers import http_date
from tests.support.edge import WAIT, EdgeThread
from tests.support.raw import Answer, Caller
from tests.support.upstream import Peer, ScriptedUpstream

FRESH = "cache-control: max-age=60"


class Asked(NamedTuple):
    """A request as the origin got it."""

    method: str
    target: str
    headers: dict[str, str]


def reply(*headers: str, body: bytes = b"body", status: str = "200 OK") -> bytes:
    """A whole reply."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not status.startswith(("204", "304")):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Origin(ScriptedUpstream):
    """Answers every request with what `say(asked)` returns: bytes, or pieces with `threading.Event`s between them that
    are waited for.
    """

    def __init__(self, say: Callable[[Asked], Any], clock: Clock | None = None) -> None:
        """With a `clock` of the test's own replies are dated by it."""
        self.clock = clock
        super().__init__(self._answer)
        self.say = say
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    def _answer(self, peer: Peer) -> None:
        while head := peer.read_head():
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            method, target, _ = first.split(" ")
            pairs = [line.split(": ", 1) for line in lines if line]
            asked = Asked(method, target, dict(pairs))
            if "content-length" in asked.headers:
                peer.read(int(asked.headers["content-length"]))
            with self._lock:
                self.asked.append(asked)
            said = self.say(asked)
            for piece in [said] if isinstance(said, bytes) else said:
                if isinstance(piece, bytes):
                    peer.send(self._dated(piece))
                elif isinstance(piece, threading.Event):
                    assert piece.wait(WAIT)
                else:
                    piece(peer)
                    return

    def _dated(self, piece: bytes) -> bytes:
        if self.clock is None or not piece.startswith(b"HTTP/1.1 "):
            return piece
        first, rest = piece.split(b"\r\n", 1)
        return first + b"\r\ndate: " + http_date(self.clock.wall()) + b"\r\n" + rest

    @property
    def count(self) -> int:
        """Requests so far."""
        return len(self.asked)


def document(port: int, service: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Everything goes to 127.0.0.1:`port` through a cache with these `options`."""
    return {
        "upstreams": {
            "up": {
                "targets": [{"address": f"127.0.0.1:{port}"}],
                "breaker": {"enabled": False},
                "passive_health": {"enabled": False},
            }
        },
        "services": {"up": {"upstream": "up", "retries": {"attempts": 0}, **(service or {})}},
        "routes": {"all": {"path": "/*", "service": "up", "policies": ["cache"]}},
        "policies": {"cache": options},
    }


class Scene:
    """`with Scene(say, **options) as scene`: `scene.get("/x")` asks on a connection of its own."""

    def __init__(self, say: Callable[[Asked], Any] | bytes, clock: Any = None, **options: Any) -> None:
        self.origin = Origin((lambda asked: say) if isinstance(say, bytes) else say, clock)
        self.clock = clock
        self.options = options
        self.edge: EdgeThread = None  # type: ignore[assignment]

    def __enter__(self) -> Scene:
        self.origin.__enter__()
        self.edge = EdgeThread(self.document(), self.clock)
        self.edge.__enter__()
        return self

    def document(self) -> dict[str, Any]:
        """What is served."""
        return document(self.origin.port, **self.options)

    def __exit__(self, *error: Any) -> None:
        try:
            self.edge.__exit__(*error)
        finally:
            self.origin.__exit__(*error)

    def get(self, path: str = "/", *headers: str, method: str = "GET") -> Answer:
        """One request."""
        with Caller(self.edge.port) as caller:
            return caller.ask(path, *headers, method=method)

    def raw(self, text: str) -> Answer:
        """One request, written out; lines end in LF here."""
        with Caller(self.edge.port) as caller:
            caller.send(text.replace("\n", "\r\n").encode())
            return caller.answer()

    def callers(self, count: int, path: str = "/", *headers: str) -> list[Caller]:
        """Connections that have all asked and not been answered."""
        callers = [Caller(self.edge.port) for _ in range(count)]
        for caller in callers:
            lines = [f"GET {path} HTTP/1.1", "host: test", *headers, "", ""]
            caller.send("\r\n".join(lines).encode())
        return callers

    def wait_for_callers(self, count: int) -> None:
        """Until so many exchanges are under way."""
        self.edge.until(lambda: self.under_way() == count)

    def under_way(self) -> int:
        """Exchanges of callers that are not over."""
        return self.edge.call(
            lambda: sum(
                connection.exchange is not None
                for state in self.edge.edge._states()
                for connection in state.connections
            )
        )

    def kept(self) -> Any:
        """The cache's `Kept`."""
        return self.edge.edge._ground.kept["cache", "cache"]
