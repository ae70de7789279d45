"""Accepting callers' connections on a listener's sockets: plain, with TLS, behind the PROXY protocol."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from gatewayd.config import model
from gatewayd.config.model import Document
from gatewayd.core.cidr import CidrSet
from gatewayd.core.tasks import spawn
from gatewayd.errors import GatewaydError
from gatewayd.rfc.forwarding import canonical
from gatewayd.rfc.path import PathRules
from gatewayd.wire.downstream import DownstreamConnection
from gatewayd.wire.listener import Settings
from gatewayd.wire.proxy_protocol import read_header
from gatewayd.wire.tls import ListenerContexts

_log = logging.getLogger(__name__)
Factory = Callable[..., DownstreamConnection]

COMPLAIN_EVERY = 60.0
"""Seconds between two lines on refused connections in the daemon's log, per listener."""
OUT_OF_DESCRIPTORS_PAUSE = 0.1
"""Seconds without accepting after the process ran out of descriptors."""


class Acceptor:
    """One listener's sockets in one worker. Sockets are duplicates: the supervisor keeps the originals open."""

    def __init__(
        self,
        name: str,
        listener: model.Listener,
        contexts: ListenerContexts | None,
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`refused` hears of connections without a PROXY header where one must be."""
        self.name = name
        self.listener = listener
        self.contexts = contexts
        self._factory: Factory | None = None
        self._socks: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._trusted = CidrSet(listener.trusted_proxies)
        self.handshake_timeout = 10.0
        self._refused = refused
        self._complained = -COMPLAIN_EVERY

    @property
    def closed(self) -> bool:
        """Nothing is accepted."""
        return not self._socks

    def settings(self, document: Document) -> Settings:
        """What the listener's connections go by."""
        paths = document.gateway.paths
        return Settings(
            document.limits,
            document.timeouts,
            PathRules(paths.encoded_slash, paths.semicolon, paths.empty_segments),
            self._trusted if self.listener.trusted_proxies else None,
        )

    def take_over(self, listener: model.Listener, contexts: ListenerContexts | None) -> bool:
        """Go on under another configuration; True if the sockets have to be opened again for it."""
        changed = (self.listener.tls is None) != (listener.tls is None)
        changed = changed or self.listener.proxy_protocol != listener.proxy_protocol
        self.listener = listener
        self._trusted = CidrSet(listener.trusted_proxies)
        if changed or self.contexts is None or contexts is None:
            self.contexts = contexts
        else:
            self.contexts.adopt(contexts)
        return changed

    def wait_for_handshakes(self, seconds: float) -> bool:
        """How long TLS handshakes and PROXY headers may take; True if the sockets have to be opened again for it."""
        changed = self.handshake_timeout != seconds
        self.handshake_timeout = seconds
        return changed and self.contexts is not None and bool(self._servers)

    async def open(self, sock: socket.socket, factory: Factory) -> None:
        """Accept on `sock`, which is the acceptor's from now on."""
        self._factory = factory
        self._socks.append(sock)
        await self._serve(sock)

    async def reopen(self) -> None:
        """Accept on the same sockets under the present configuration."""
        await self._stop_serving()
        for sock in self._socks:
            await self._serve(sock)

    async def _serve(self, sock: socket.socket) -> None:
        assert self._factory is not None
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        if self.listener.proxy_protocol:
            self._tasks.append(spawn(self._accept_proxied(sock), f"accept {self.name}"))
            return
        copy = sock.dup()  # the server closes its own
        options: dict[str, Any] = {"sock": copy, "backlog": self.listener.backlog}
        if self.contexts is not None:
            options |= {"ssl": self.contexts.context, "ssl_handshake_timeout": self.handshake_timeout}
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        server = await create(self._factory, **options)
        self._servers.append(server)

    async def close(self) -> None:
        """Take what is queued, then accept no more."""
        await self._stop_serving()
        await asyncio.gather(*(taken for sock in self._socks for taken in self._take_queued(sock)))
        await self.shut()

    async def shut(self) -> None:
        """Accept no more, and leave what is queued to whoever else holds the sockets."""
        await self._stop_serving()
        for sock in self._socks:
            sock.close()
        self._socks.clear()

    async def _stop_serving(self) -> None:
        for task in self._tasks:
            task.cancel()
        for server in self._servers:
            server.close()
        self._tasks.clear()
        self._servers.clear()

    def _take_queued(self, sock: socket.socket) -> Iterator[Coroutine[Any, Any, None]]:
        """What is to be done for each connection that is queued; a slow handshake holds up no other one."""
        while True:
            try:
                connection, peer = sock.accept()
            except OSError:
                return
            yield self._proxied(connection, peer) if self.listener.proxy_protocol else self._adopt(connection)

    async def _adopt(self, connection: socket.socket, address: tuple[str, int] | None = None) -> None:
        """Make an accepted socket a connection of the listener's."""
        assert self._factory is not None
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        factory = self._factory
        context = self.contexts.context if self.contexts is not None else None
        options = {} if context is None else {"ssl_handshake_timeout": self.handshake_timeout}
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # the handshake failed, or the caller has left
            await loop.connect_accepted_socket(lambda: factory(address), connection, ssl=context, **options)

    # -- behind the PROXY protocol --------------------------------------------------------------------------------

    async def _accept_proxied(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(sock)
            except OSError as error:
                _log.warning("listener %s: accept: %s", self.name, os.strerror(error.errno or 0))
                await asyncio.sleep(OUT_OF_DESCRIPTORS_PAUSE)
                continue
            spawn(self._proxied(connection, peer), f"PROXY header on {self.name}")

    async def _proxied(self, connection: socket.socket, peer: object) -> None:
        """Read the header, which only trusted proxies may send, then go on as if its source had connected."""
        address = peer[0] if isinstance(peer, tuple) else ""
        try:
            if address and canonical(address) not in self._trusted:
                raise GatewaydError(f"{address} is no trusted proxy")
            async with asyncio.timeout(self.handshake_timeout):
                header = await read_header(connection)
        except (GatewaydError, OSError, TimeoutError) as error:
            self._refuse(connection, error)
            return
        source = None if header.local else (header.source, header.source_port)
        await self._adopt(connection, source)

    def _refuse(self, connection: socket.socket, error: Exception) -> None:
        """Close `connection` and count it; the log hears of one in a while, for anyone can cause any number."""
        connection.close()
        self._refused("proxy_protocol")
        now = asyncio.get_running_loop().time()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            why = str(error) or "the PROXY header did not come in time"
            _log.info("listener %s: connection refused: %s", self.name, why)


Commit = Callable[[Acceptor | None], tuple[Acceptor, bool]]


def prepare(
    name: str,
    listener: model.Listener,
    secret: bytes,
    failed: Callable[[Exception], None],
    refused: Callable[[str], None],
) -> Commit:
    """Read the listener's files; raises `ConfigError`. What it returns cannot fail: it makes or changes the acceptor.

    `secret` keys TLS session tickets, the same in all workers; `failed` hears of failed handshakes, `refused` of
    connections refused. The second part of the result says whether sockets must be opened again.
    """
    contexts = None
    if listener.tls is not None:
        contexts = ListenerContexts(listener.tls, name, secret, f"listeners.{name}.tls", failed)

    def commit(old: Acceptor | None) -> tuple[Acceptor, bool]:
        if old is None:
            return Acceptor(name, listener, contexts, refused), False
        return old, old.take_over(listener, contexts)

    return commit
