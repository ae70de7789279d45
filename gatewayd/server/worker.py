"""One worker: the data path on uvloop, told what to do over its channel. Imports nothing of the control plane."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol

import msgspec
import uvloop

from gatewayd.config.model import Document, decode
from gatewayd.core.arena import Arena
from gatewayd.core.tasks import spawn
from gatewayd.server import log, shared_memory
from gatewayd.server.channel import (
    AnyMessage,
    Apply,
    Channel,
    ChannelError,
    Drain,
    Listen,
    ReopenLogs,
    Status,
    Tell,
)
from gatewayd.server.process import ignore_signals, numbers
from gatewayd.server.sockets import LAST_HANDSHAKES, drop_new

_log = logging.getLogger(__name__)
_GC_THRESHOLDS = (50_000, 20, 20)
"""Objects that live long are frozen after the first apply; what a request makes dies by reference count."""


class Serving(Protocol):
    """The data path as a worker drives it (`gateway.edge.Edge`)."""

    def apply(self, document: Document, slots: dict[str, int], generation: int) -> None:
        """Serve `document` from now on; raises `ConfigError` and serves what it served before."""
        ...

    async def start(self) -> None:
        """Begin what runs beside requests; once, after the first `apply`."""
        ...

    async def listen(self, name: str, sock: socket.socket) -> None:
        """Accept for the listener `name` on `sock` as well."""
        ...

    async def unlisten(self, name: str) -> None:
        """Take what is queued, then accept no more for `name`; connections stay."""
        ...

    def drain(self, timeout: float, idle_grace: float) -> None:
        """Stop accepting and let connections end."""
        ...

    async def drained(self) -> None:
        """Wait until no connection is left or the drain's time is over."""
        ...

    def reopen_logs(self) -> None:
        """Open the access log anew."""
        ...

    def tell(self, topic: str, body: bytes) -> bytes:
        """Tell whoever hears `topic`; a JSON list of what they said."""
        ...

    def status(self) -> dict[str, Any]:
        """What there is to say, as JSON would have it."""
        ...

    async def stop(self) -> None:
        """End everything."""
        ...


class Worker:
    """Does what the supervisor says, one call after the other. Drains and ends if the supervisor is gone."""

    def __init__(self, make_edge: Callable[[bytes], Serving]) -> None:
        """`make_edge` makes the data path, once it is known which secret its TLS tickets are to be keyed with."""
        self._make_edge = make_edge
        self._edge: Serving | None = None
        self._document = Document()
        self._draining = False
        self._listening: dict[str, dict[int, socket.socket]] = {}  # our copies, by identity
        self._shared = False
        self._turn = asyncio.Lock()
        self._over = asyncio.Event()

    async def run(self, sock: socket.socket) -> None:
        """Serve the channel `sock` until drained."""
        channel = Channel(sock, self._serve, self._abandoned)
        await self._over.wait()
        if self._edge is not None:
            await self._edge.stop()
        channel.close()

    async def _serve(self, message: AnyMessage, socks: list[socket.socket]) -> bytes | None:
        async with self._turn:
            match message:
                case Apply():
                    await self._apply(message)
                case Listen(listeners, shared):
                    self._shared = shared
                    await self._listen(listeners, socks)
                case Drain(timeout, idle_grace):
                    self._drain(timeout, idle_grace)
                case ReopenLogs():
                    self._applied.reopen_logs()
                case Status():
                    return msgspec.json.encode(self._applied.status())
                case Tell(topic, body):
                    return self._applied.tell(topic, body)
                case _:
                    raise ChannelError(f"a worker does not know {type(message).__name__}")
        return None

    @property
    def _applied(self) -> Serving:
        if self._edge is None:
            raise ChannelError("nothing was applied yet")
        return self._edge

    async def _apply(self, message: Apply) -> None:
        document = decode(msgspec.msgpack.decode(message.document))
        edge = self._edge or self._make_edge(message.secret)
        edge.apply(document, message.slots, message.generation)
        self._document = document
        if self._edge is None:
            self._edge = edge
            await edge.start()
            _settle()

    async def _listen(self, listeners: Sequence[tuple[str, int]], socks: list[socket.socket]) -> None:
        """Accept on what was said and nothing else; what stays is only disturbed where another goes."""
        if self._draining:  # what crossed the drain on its way
            for sock in socks:
                sock.close()
            return
        supply = iter(socks)
        wanted = {name: {_identity(sock): sock for sock in islice(supply, count)} for name, count in listeners}
        for name, held in list(self._listening.items()):
            if held.keys() - wanted.get(name, {}).keys():
                await self._applied.unlisten(name)
                self._forget(name)
        for name, found in wanted.items():
            held = self._listening.setdefault(name, {})
            for identity, sock in found.items():
                if identity in held:
                    sock.close()
                else:
                    held[identity] = sock.dup()
                    await self._applied.listen(name, sock)

    def _forget(self, *names: str) -> None:
        for name in names:
            for sock in self._listening.pop(name).values():
                sock.close()

    def _drain(self, timeout: float, idle_grace: float) -> None:
        if self._draining:
            return
        self._draining = True
        self._forget(*self._listening)
        if self._edge is None:
            self._over.set()
        else:
            self._edge.drain(timeout, idle_grace)
            spawn(self._leave(self._edge), "leave")

    async def _leave(self, edge: Serving) -> None:
        await edge.drained()
        self._over.set()

    def _abandoned(self) -> None:
        if not self._draining:
            _log.warning("the supervisor is gone; draining")
            spawn(self._close_and_drain(), "drain")

    async def _close_and_drain(self) -> None:
        """What the supervisor would have done: let those in who have begun to connect, then drain."""
        if not self._shared:
            for sock in [sock for held in self._listening.values() for sock in held.values()]:
                drop_new(sock)
            await asyncio.sleep(LAST_HANDSHAKES)
        gateway = self._document.gateway
        self._drain(gateway.drain_timeout, gateway.drain_idle_grace)


def _identity(sock: socket.socket) -> int:
    """The same for all descriptors of one socket: its inode."""
    return os.fstat(sock.fileno()).st_ino


def _settle() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


MakeEdge = Callable[[int, memoryview, Arena, bytes], Serving]


def main(make_edge: MakeEdge | None = None) -> None:
    """Run as the worker that the command line names. `make_edge(index, memory, arena, secret)` makes the data path."""
    ignore_signals()
    options = numbers(sys.argv[1:])
    log.set_up(f"worker {options['index']}")
    memory, arena = shared_memory.attach(options["memory"]), Arena(options["arena"])
    make = partial(make_edge or _edge_maker(), options["index"], memory, arena)

    async def run() -> None:
        await Worker(make).run(socket.socket(fileno=options["channel"]))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _edge_maker() -> MakeEdge:
    from gatewayd.gateway.edge import Edge  # here, so that the process can be tested without the data path
    from gatewayd.wire.tls import unraisable

    sys.unraisablehook = unraisable
    return lambda index, memory, arena, secret: Edge(index, memory, secret=secret, arena=arena)


if __name__ == "__main__":
    main()
