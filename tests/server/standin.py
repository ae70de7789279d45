"""A worker whose data path is a stand-in: it answers with who it is. `gateway.name` in the document makes it misbehave.

Run as a program it takes the place of `gatewayd.server.worker`.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from typing import Any

from gatewayd.config.model import Document
from gatewayd.core.arena import Arena
from gatewayd.errors import ConfigError, Fault
from gatewayd.server import worker

COMMAND = (sys.executable, "-P", __file__)
REFUSED, CRASHING, BROKEN, SLOW = "refused", "crashing", "broken", "slow"
"""Names of gateways that are refused, that end the process, that raise what nobody expects, that take long."""


class StandIn:
    """Answers a connection's first bytes with a JSON line about itself; `hold` in them keeps it open."""

    def __init__(self, index: int, memory: memoryview, arena: Arena, secret: bytes) -> None:
        self.index, self.memory, self.secret = index, memory, secret
        self.generation = 0
        self.servers: dict[str, list[asyncio.Server]] = {}
        self.held: set[asyncio.StreamWriter] = set()
        self.gone = asyncio.Event()
        self.reopened = 0
        self.started = 0

    def apply(self, document: Document, slots: dict[str, int], generation: int) -> None:
        """Misbehave if the document says so."""
        if document.gateway.name == REFUSED:
            raise ConfigError([Fault("gateway.name", "is refused", document.gateway.name)])
        if document.gateway.name == BROKEN:
            raise RuntimeError("broken")
        if document.gateway.name == CRASHING:
            os._exit(3)
        if document.gateway.name == SLOW:
            threading.Event().wait(3)
        self.generation = generation

    async def start(self) -> None:
        """Count."""
        self.started += 1

    async def listen(self, name: str, sock: socket.socket) -> None:
        """Answer there."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await reader.read(100)
            told = {"index": self.index, "pid": os.getpid(), "generation": self.generation, "listener": name}
            writer.write(json.dumps(told).encode() + b"\n")
            if b"hold" in asked:
                self.held.add(writer)
                await reader.read()
                self.held.discard(writer)
            writer.close()
            self._check()

        started = asyncio.start_unix_server if sock.family == socket.AF_UNIX else asyncio.start_server
        self.servers.setdefault(name, []).append(await started(answer, sock=sock))

    async def unlisten(self, name: str) -> None:
        """Answer there no more."""
        for server in self.servers.pop(name, []):
            server.close()

    def drain(self, timeout: float, idle_grace: float) -> None:
        """Wait for those who hold."""
        for servers in self.servers.values():
            for server in servers:
                server.close()
        self.servers = None  # type: ignore[assignment]
        asyncio.get_running_loop().call_later(timeout, self.gone.set)
        self._check()

    def _check(self) -> None:
        if self.servers is None and not self.held:
            self.gone.set()

    async def drained(self) -> None:
        """Nobody holds, or time is over."""
        await self.gone.wait()

    def reopen_logs(self) -> None:
        """Count."""
        self.reopened += 1

    def tell(self, topic: str, body: bytes) -> bytes:
        """Say what was heard."""
        return json.dumps([f"{topic} {body.decode()}"]).encode()

    def status(self) -> dict[str, Any]:
        """Enough to look at from outside."""
        listening = {name: len(servers) for name, servers in (self.servers or {}).items()}
        return {
            "connections": len(self.held),
            "listening": listening,
            "reopened": self.reopened,
            "started": self.started,
            "secret": self.secret.hex(),
            "upstreams": {},
        }

    async def stop(self) -> None:
        """Let go of those who hold."""
        for writer in self.held:
            writer.close()


if __name__ == "__main__":
    worker.main(StandIn)
