"""An `Edge` on uvloop in a thread of its own: the data path as a worker runs it, without the processes around it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import uvloop

from gatewayd.config.load import decode
from gatewayd.core.clock import Clock
from gatewayd.gateway.edge import Edge
from gatewayd.observe import metrics

WAIT = 20.0
"""Seconds any step may take before a test is given up; never a measure of speed."""


class EdgeThread:
    """Serves `document` (plain data, as TOML gives it) on loopback ports of its own: `with EdgeThread({...}) as edge`.

    Listeners' addresses in the document are ignored, but for unix sockets: each is bound to a free port, found in
    `ports`. Without listeners one is made, named "http". The access log goes nowhere unless the document says
    otherwise. An exception that nobody caught in the edge's loop fails the test that used it.
    """

    def __init__(self, document: dict[str, Any], clock: Clock | None = None) -> None:
        document.setdefault("listeners", {}).setdefault("http", {})
        for listener in document["listeners"].values():
            listener.setdefault("address", "127.0.0.1:0")
        document.setdefault("access_log", {"enabled": False})
        self.document = document
        self.clock = clock
        self.faults: list[dict[str, Any]] = []  # exceptions that nobody caught, as asyncio reports them
        self.memory = memoryview(bytearray(metrics.size_bytes(1)))
        self.ports: dict[str, int] = {}
        self.edge: Edge = None  # type: ignore[assignment]
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self._ready = threading.Event()
        self._stop: asyncio.Event = None  # type: ignore[assignment]
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def port(self) -> int:
        """The port of the only, or the first, listener."""
        return next(iter(self.ports.values()))

    def __enter__(self) -> EdgeThread:
        self._thread.start()
        assert self._ready.wait(WAIT)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.loop is not None and self._error is None:
            self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT)
        if self._error is not None and error is None:
            raise self._error
        assert error is not None or not self.faults, self.faults

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call `function` in the edge's loop; coroutines are awaited. Returns its result."""

        async def run() -> Any:
            result = function(*arguments)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()`."""
        for _ in range(int(WAIT / 0.005)):
            if condition():
                return
            threading.Event().wait(0.005)
        raise AssertionError("the condition did not come true")

    def apply(self, document: dict[str, Any]) -> None:
        """Reload: serve `document` from now on."""
        document.setdefault("listeners", self.document["listeners"])
        for listener in document["listeners"].values():
            listener.setdefault("address", "127.0.0.1:0")
        document.setdefault("access_log", {"enabled": False})
        generation = self.edge.status()["generation"] + 1
        slots = {name: at for at, name in enumerate(document.get("routes", {}), 1)}
        self.call(self.edge.apply, decode(document), slots, generation)

    def bind(self, name: str) -> socket.socket:
        """A socket for the listener `name`, for `edge.listen`."""
        address = self.document["listeners"].get(name, {}).get("address", "")
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(address.removeprefix("unix:"))
            sock.listen(512)
        else:
            sock = socket.create_server(("127.0.0.1", 0), backlog=512)
            self.ports[name] = sock.getsockname()[1]
        return sock

    def totals(self) -> metrics.Totals:
        """The metrics counted so far."""
        slots = {name: at for at, name in enumerate(self.document.get("routes", {}), 1)}
        return metrics.read(self.memory, {"": 0, **slots}, [0])

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._error = error
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda loop, context: self.faults.append(context))
        self._stop = asyncio.Event()
        self.edge = Edge(worker=0, memory=self.memory, clock=self.clock)
        slots = {name: at for at, name in enumerate(self.document.get("routes", {}), 1)}
        self.edge.apply(decode(self.document), slots, 1)
        await self.edge.start()
        for name in self.document["listeners"]:
            await self.edge.listen(name, self.bind(name))
        self._ready.set()
        await self._stop.wait()
        await self.edge.stop()


def noted(totals: metrics.Totals) -> dict[str, int]:
    """What policies decided, as `verdict:instance`, and how often."""
    return {f"{each.verdict}:{each.instance}": count for each, count in totals.verdicts.items()}


def proxied(port: int, **service: Any) -> dict[str, Any]:
    """A document that sends everything to 127.0.0.1:`port`; `service` adds options to the service."""
    return {
        "upstreams": {"up": {"targets": [{"address": f"127.0.0.1:{port}"}]}},
        "services": {"up": {"upstream": "up", **service}},
        "routes": {"all": {"path": "/*", "service": "up"}},
    }
