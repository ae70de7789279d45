"""The body of a request as a whole, for policies that have to see all of it before anything is sent on."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from gatewayd.core.exchange import BodySink, Downstream, Exchange, Headers


async def gather(exchange: Exchange, limit: int) -> bytes | None:
    """All of the body, in memory; None if it has more than `limit` bytes, or the caller went away.

    Whoever reads the body afterwards gets it as if nobody had, also where it has more: the rest waits at the caller's.
    """
    if exchange.body_length > limit:
        return None
    downstream = exchange.downstream
    if exchange.expects_continue:
        downstream.inform(100, [])
        exchange.expects_continue = False
    gathering = _Gathering(downstream, limit)
    downstream.read_body(gathering)
    whole = await gathering.decided
    exchange.downstream = _Held(downstream, gathering)
    return b"".join(gathering.pieces) if whole else None


class _Gathering:
    """Takes the body until it is complete, or too much."""

    deadline = math.inf

    def __init__(self, downstream: Downstream, limit: int) -> None:
        self.decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether it is complete, and not too much."""
        self.pieces: list[bytes] = []
        self.ended = False
        self.trailers: Headers = []
        self._downstream = downstream
        self._room = limit

    def expire(self, now: float) -> None:
        """Never due: the caller's connection watches how fast the body comes."""

    def body(self, data: bytes) -> None:
        self._room -= len(data)
        self.pieces.append(data)
        if self._room < 0:
            self._downstream.pause_body()
            self._decide(False)

    def body_end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self.ended = True
        self._decide(True)

    def caller_gone(self) -> None:
        self._decide(False)

    def pause_reply(self) -> None:
        """There is no reply yet."""

    def resume_reply(self) -> None:
        """There is no reply yet."""

    def _decide(self, whole: bool) -> None:
        if not self.decided.done():
            self.decided.set_result(whole)


class _Held:
    """The caller's side of an exchange whose body, or a part, is at hand already: a `core.exchange.Downstream`."""

    __slots__ = ("_downstream", "_gathered")

    def __init__(self, downstream: Downstream, gathered: _Gathering) -> None:
        self._downstream = downstream
        self._gathered: _Gathering | None = gathered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._downstream, name)

    @property
    def kept(self) -> dict[str, Any] | None:
        """The connection's own."""
        return self._downstream.kept

    @kept.setter
    def kept(self, kept: dict[str, Any] | None) -> None:
        self._downstream.kept = kept

    def read_body(self, sink: BodySink) -> None:
        """Hand over what was gathered, once; the rest, and what is a tunnel's, comes from the connection itself."""
        self._downstream.read_body(sink)
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        self._downstream.resume_body()  # first, for the sink may pause it again
        for piece in gathered.pieces:
            sink.body(piece)
        if gathered.ended:
            sink.body_end(gathered.trailers)
