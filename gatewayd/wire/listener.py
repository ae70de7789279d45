"""What all connections of one listener in one worker share: settings, counts, and the way into the pipeline."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from gatewayd.config.model import Limits, Timeouts
from gatewayd.core.cidr import CidrSet
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.exchange import Exchange
from gatewayd.rfc.path import PathRules
from gatewayd.wire.outbox import Outbox

if TYPE_CHECKING:
    from gatewayd.wire.downstream import DownstreamConnection


class Settings:
    """A listener's settings of one generation."""

    __slots__ = ("limits", "paths", "timeouts", "trusted")

    def __init__(self, limits: Limits, timeouts: Timeouts, paths: PathRules, trusted: CidrSet | None) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self.paths = paths
        self.trusted = trusted  # proxies that are believed; None: none


class Tally:
    """Connections open in this worker, over all listeners: in all and per address (per /64 for IPv6).

    The table's size is bounded by `limits.connections`: an address stands in it only while it is connected.
    """

    __slots__ = ("by_address", "last_descriptor", "open")

    def __init__(self, last_descriptor: int = sys.maxsize) -> None:
        """`last_descriptor`: the highest that a connection may have (`core.descriptors`)."""
        self.last_descriptor = last_descriptor
        self.open = 0
        self.by_address: dict[str, int] = {}

    def admit(self, address: str, limits: Limits, descriptor: int = 0) -> str:
        """Count a connection in; a reason token when it is one too many (it is not counted then)."""
        if self.open >= limits.connections:
            return "connections"
        if descriptor > self.last_descriptor:
            return "descriptors"
        held = self.by_address.get(address, 0)
        if held >= limits.connections_per_address:
            return "connections_per_address"
        self.open += 1
        self.by_address[address] = held + 1
        return ""

    def leave(self, address: str) -> None:
        """Count an admitted connection out."""
        self.open -= 1
        held = self.by_address[address] - 1
        if held:
            self.by_address[address] = held
        else:
            del self.by_address[address]


class ListenerState:
    """One listener in one worker."""

    __slots__ = (
        "answered", "clock", "connections", "draining", "finished", "handle", "name", "on_refused", "outbox",
        "request_ids", "scheme", "settings", "tally",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        scheme: bytes,
        settings: Settings,
        handle: Callable[[Exchange], None],
        finished: Callable[[Exchange, float], None],
        tally: Tally | None = None,
        clock: Clock | None = None,
        on_refused: Callable[[str], None] = lambda reason: None,
        outbox: Outbox | None = None,
        answered: Callable[[Exchange, float], None] = lambda exchange, now: None,
    ) -> None:
        """`answered` hears of exchanges whose reply is whole while something of them goes on; `finished` of all."""
        self.name = name
        self.scheme = scheme
        self.settings = settings
        self.handle = handle
        self.finished = finished
        self.answered = answered
        self.on_refused = on_refused
        self.outbox = outbox or Outbox()
        self.tally = tally or Tally()
        self.clock: Clock = clock or SystemClock()
        self.draining = False
        self.connections: set[DownstreamConnection] = set()
        self.request_ids = request_ids()


def request_ids() -> Callable[[], bytes]:
    """Unique ids, 32 hexadecimal digits: 80 random bits of this process and a count. No secrets."""
    prefix = os.urandom(10).hex().encode()
    count = itertools.count(1).__next__
    return lambda: b"%b%012x" % (prefix, count())
