"""An upstream in a process of its own, quick enough for load: what it answers holds what it was asked.

| request | reply |
|---|---|
| `/echo/TOKEN` | 200 and `TOKEN` |
| `/slow/SECONDS/TOKEN` | the same, later |
| `/zeros/COUNT` | so many zero bytes |
| `/counts` | JSON: process id, requests, body bytes taken and given, connections open |
| `/held` with a body | none of it is read until somebody asks for `/release`; then 200 and how many bytes it had |
| `/hang` | nothing, ever |

Run as a program it prints its port and ends when its input does, so it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import httpx
import uvloop

CHUNK = bytes(256 * 1024)
WAIT = 20.0


class Echo(asyncio.Protocol):
    """One connection. Requests come one at a time, bodies with a Content-Length."""

    requests = taken = given = 0
    connections: set[Echo] = set()
    held: list[Echo] = []

    def __init__(self) -> None:
        self.transport: Any = None
        self.buffer = b""
        self.path = ""
        self.body = self.body_left = self.left = 0
        self.paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.left = 0

    def data_received(self, data: bytes) -> None:
        if self.body_left:
            self.take(len(data))
            return
        self.buffer += data
        if b"\r\n\r\n" not in self.buffer:
            return
        head, _, body = self.buffer.partition(b"\r\n\r\n")
        self.buffer = b""
        self.begin(head, body)

    def begin(self, head: bytes, body: bytes) -> None:
        """A head is complete; `body` came along."""
        Echo.requests += 1
        self.path = head[: head.index(b" HTTP")].partition(b" ")[2].decode()
        at = head.find(b"content-length: ")
        self.body = self.body_left = int(head[at + 16 :].partition(b"\r")[0]) if at > 0 else 0
        if self.body_left:
            if self.path == "/held":
                self.transport.pause_reading()
                Echo.held.append(self)
            self.take(len(body))
        else:
            self.answer()

    def take(self, count: int) -> None:
        """So many more bytes of the body are in."""
        Echo.taken += count
        self.body_left -= count
        if self.body_left == 0:
            self.answer()

    def answer(self) -> None:
        """The request is complete."""
        kind, _, rest = self.path[1:].partition("/")
        if kind == "echo":
            self.reply(rest.encode())
        elif kind == "slow":
            seconds, _, token = rest.partition("/")
            asyncio.get_running_loop().call_later(float(seconds), self.reply, token.encode())
        elif kind == "zeros":
            self.left = int(rest)
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self.left)
            self.pump()
        elif kind == "release":
            while Echo.held:
                Echo.held.pop().transport.resume_reading()
            self.reply(b"")
        elif kind == "counts":
            counts = (os.getpid(), Echo.requests, Echo.taken, Echo.given, len(Echo.connections))
            self.reply(b'{"pid": %d, "requests": %d, "taken": %d, "given": %d, "connections": %d}' % counts)
        elif kind != "hang":
            self.reply(b"%d" % self.body)

    def reply(self, body: bytes) -> None:
        """Send it, if somebody is still there."""
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def pump(self) -> None:
        """Zeros, until the other side takes no more."""
        while self.left and not self.paused and not self.transport.is_closing():
            piece = CHUNK[: self.left]
            self.left -= len(piece)
            Echo.given += len(piece)
            self.transport.write(piece)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pump()


class EchoUpstream:
    """The process: `with EchoUpstream() as upstream`. It can be killed, and started again at the same port."""

    def __init__(self, at: str = "127.0.0.1:0") -> None:
        """`at`: a host and port, 0 for a free one, or the path of a unix socket."""
        self._at = at
        self._process: subprocess.Popen[str] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._at.rpartition(":")[2])

    @property
    def address(self) -> str:
        """The same as a target's address."""
        return f"unix:{self._at}" if self._at.startswith("/") else self._at

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "tests.support.echo", self._at]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._at = self._process.stdout.readline().strip()
        assert self._at, "the upstream did not start"

    def kill(self) -> None:
        """As a crash would: nothing is said to anyone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._close()

    def counts(self) -> dict[str, int]:
        """What it says at `/counts`, asked directly."""
        found: dict[str, int] = httpx.get(f"http://{self._at}/counts", timeout=WAIT).json()
        return found

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            process.stdin.close()
            process.stdout.close()
            process.wait(WAIT)

    def __enter__(self) -> EchoUpstream:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


async def _serve(at: str) -> None:
    loop = asyncio.get_running_loop()
    if at.startswith("/"):
        server = await loop.create_unix_server(Echo, at)
        print(at, flush=True)
    else:
        host, _, port = at.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, int(port)), family=family, backlog=4096)
        server = await loop.create_server(Echo, sock=listening, backlog=4096)
        print(f"{host}:{listening.getsockname()[1]}", flush=True)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()
    server.close()
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
