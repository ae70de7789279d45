"""The body of a request as a whole, for policies that have to see all of it before anything is sent on."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from gatewayd.core.exchange import BodySink, Downstream, Exchange, Headers


async def gather(exchange: Exchange, limit: int) -> bytes | None:
    """All of the body, in memory; None if it has more than `limit` bytes, or the caller went away.

    Whoever reads the body afterwards gets it as if nobody had.
    """
    if exchange.body_length > limit:
        return None
    exchange.body_limit = min(exchange.body_limit or limit, limit)  # the caller's connection sees to what comes yet
    downstream = exchange.downstream
    if exchange.expects_continue:
        downstream.inform(100, [])
        exchange.expects_continue = False
    gathering = _Gathering(asyncio.get_running_loop().create_future(), limit)
    downstream.read_body(gathering)
    if not await gathering.complete:
        return None
    exchange.downstream = _Held(downstream, gathering)
    return b"".join(gathering.pieces)


class _Gathering:
    """Takes the body until it is complete."""

    deadline = math.inf

    def __init__(self, complete: asyncio.Future[bool], limit: int) -> None:
        self.complete = complete
        self.pieces: list[bytes] = []
        self.trailers: Headers = []
        self._room = limit

    def expire(self, now: float) -> None:
        """Never due: the caller's connection watches how fast the body comes."""

    def body(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self.pieces.append(data)
        else:
            self._end(False)

    def body_end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self._end(True)

    def caller_gone(self) -> None:
        self._end(False)

    def pause_reply(self) -> None:
        """There is no reply yet."""

    def resume_reply(self) -> None:
        """There is no reply yet."""

    def _end(self, complete: bool) -> None:
        if not self.complete.done():
            self.complete.set_result(complete)


class _Held:
    """The caller's side of an exchange whose body is at hand already: a `core.exchange.Downstream`."""

    __slots__ = ("_downstream", "_gathered")

    def __init__(self, downstream: Downstream, gathered: _Gathering) -> None:
        self._downstream = downstream
        self._gathered: _Gathering | None = gathered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._downstream, name)

    def read_body(self, sink: BodySink) -> None:
        """Hand over what was gathered, once; what is a tunnel's comes from the connection itself."""
        self._downstream.read_body(sink)
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            for piece in gathered.pieces:
                sink.body(piece)
            sink.body_end(gathered.trailers)
