"""An edge whose time stands still until a test moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gatewayd.core.clock import FakeClock
from gatewayd.wire.downstream import DownstreamConnection
from gatewayd.wire.upstream import UpstreamConnection
from tests.support.edge import WAIT, EdgeThread


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread brings about; never a measure of speed."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("the condition did not come true")


class TimedEdge(EdgeThread):
    """An `EdgeThread` with a clock of its own, in seconds from the start."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.time = FakeClock()
        super().__init__(document, self.time)

    def pass_time(self, seconds: float, step: float = 1.0, each: Callable[[], Any] | None = None) -> None:
        """Move the clock on, look at all deadlines after each `step`, then call `each`."""
        end = self.time.now + seconds
        while self.time.now < end:
            self.time.advance(min(step, end - self.time.now))
            self.call(self.edge._sweep_connections, self.time.now)
            if each is not None:
                each()

    @property
    def callers(self) -> list[DownstreamConnection]:
        """Callers' connections that are open."""
        return [each for state in self.edge._listeners.values() for each in list(state.connections)]

    @property
    def caller(self) -> DownstreamConnection:
        """The only one, waited for."""
        until(lambda: len(self.callers) == 1)
        return self.callers[0]

    @property
    def onward(self) -> UpstreamConnection:
        """The target's connection that the only caller's exchange goes over, waited for."""
        caller = self.caller
        until(lambda: caller.sink is not None and caller.sink.connection is not None)
        return caller.sink.connection  # type: ignore[union-attr]

    def buffered(self) -> int:
        """Bytes the edge itself holds for callers and targets, beside what kernels hold."""

        def count() -> int:
            held = 0
            for caller in self.callers:
                held += caller.transport.get_write_buffer_size() + len(caller.buffer)
                held += sum(map(len, caller.early or []))
                onward = getattr(caller.sink, "connection", None)
                if onward is not None:
                    held += onward.transport.get_write_buffer_size() + len(onward.buffer)
            return held

        return int(self.call(count))
