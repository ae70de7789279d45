"""One body on its way to several callers, each at its own pace."""

from __future__ import annotations

import math
from typing import Protocol

from gatewayd.core.exchange import Exchange, Headers


class Source(Protocol):
    """What callers wait for."""

    def left(self, waiter: Waiter) -> None:
        """The caller went away."""
        ...

    def paused(self, waiter: Waiter) -> None:
        """The caller reads too slowly."""
        ...

    def resumed(self, waiter: Waiter) -> None:
        """The caller reads on."""
        ...


class Waiter:
    """An exchange that waits for a fetch: the `BodySink` at its caller's connection."""

    __slots__ = ("at", "begun", "deadline", "exchange", "slow", "source", "tries")

    def __init__(self, exchange: Exchange, source: Source, tries: int) -> None:
        self.exchange = exchange
        self.source = source
        self.tries = tries  # fetches it has waited for before
        self.at = 0  # pieces of the body it has got
        self.begun = False  # its reply has begun
        self.slow = False  # it takes nothing at present
        self.deadline = math.inf  # the fetch has one for all

    def expire(self, now: float) -> None:
        """Never due."""

    def body(self, data: bytes) -> None:
        """There is none: requests with a body are not fetched for others."""

    def body_end(self, trailers: Headers) -> None:
        """As `body`."""

    def caller_gone(self) -> None:
        self.source.left(self)

    def pause_reply(self) -> None:
        self.slow = True
        self.source.paused(self)

    def resume_reply(self) -> None:
        self.slow = False
        self.source.resumed(self)


class Relay:
    """The body's pieces and who gets them. They stay as long as somebody may ask for the first of them.

    `size` are all bytes so far, `held` those that are still here.
    """

    def __init__(self) -> None:
        self.size = 0
        self.held = 0
        self.ended = False
        self.whole = True  # nothing was dropped yet
        self._pieces: list[bytes] = []
        self._dropped = 0  # pieces
        self._trailers: Headers = []

    @property
    def body(self) -> bytes:
        """All of it so far; only while it is `whole`."""
        return b"".join(self._pieces)

    def begin(self, waiter: Waiter) -> bytes:
        """What there is already, for `waiter` to begin with."""
        waiter.at = len(self._pieces)
        return self.body

    def push(self, data: bytes) -> None:
        """A piece more."""
        self._pieces.append(data)
        self.size += len(data)
        self.held += len(data)

    def end(self, trailers: Headers) -> None:
        """That was all."""
        self.ended = True
        self._trailers = trailers

    def pump(self, waiter: Waiter) -> bool:
        """Send `waiter` what it takes of what it has not got; whether its reply is complete now."""
        downstream = waiter.exchange.downstream
        while not waiter.slow and waiter.at - self._dropped < len(self._pieces):
            piece = self._pieces[waiter.at - self._dropped]
            waiter.at += 1
            downstream.send_body(piece)
        if self.ended and not waiter.slow and waiter.at - self._dropped == len(self._pieces):
            downstream.end_reply(self._trailers)
            return True
        return False

    def drop_before(self, waiters: list[Waiter]) -> None:
        """Forget what all of `waiters` have got."""
        self.whole = False
        done = min((each.at for each in waiters), default=self._dropped + len(self._pieces)) - self._dropped
        self.held -= sum(map(len, self._pieces[:done]))
        del self._pieces[:done]
        self._dropped += done
