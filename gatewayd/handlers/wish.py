"""What stands in a pool's line for one attempt of an exchange.

Not the exchange itself: when an attempt is given up and another made, a connection that the first one asked for may
still come, and must not be taken for the second's; the request would be sent twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewayd.errors import OUT_OF_DESCRIPTORS, UpstreamError
from gatewayd.wire.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gatewayd.handlers.forward import Forward


class Wish:
    """An attempt's wish for a connection (`upstream.pool.Waiter`); void when that attempt is over."""

    __slots__ = ("_attempt", "_forward")

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._attempt = forward.attempt

    @property
    def gone(self) -> bool:
        """Nobody waits for this connection any more."""
        forward = self._forward
        return forward.gone or forward.attempt != self._attempt

    def connected(self, connection: UpstreamConnection) -> None:
        """Here it is."""
        forward = self._forward
        forward.connected(connection, forward.service.clock.monotonic())

    def dial_failed(self, error: UpstreamError) -> None:
        """There will be none."""
        if error.reason == OUT_OF_DESCRIPTORS:
            self._forward.turned_away(error)
        else:
            self._forward.reply_failed(error)
