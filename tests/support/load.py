"""Load by callers that never retry: each reply is checked against its request, and whatever goes wrong is counted.

A caller keeps its connection for as long as it is told it may, or opens one per request. It never looks whether a
connection was closed meanwhile and never asks twice: what a daemon drops between two requests is a failure here.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import uvloop

WAIT = 60.0
"""Seconds any step may take before a test is given up; never a measure of speed."""


class Outcome:
    """What became of the requests: `ok`, `failed` by reason, `marks` by the value of the reply's mark header."""

    def __init__(self) -> None:
        self.ok = 0
        self.refused = 0  # connections that were refused: at a port that is closed on purpose they are right
        self.failed: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.connections = 0

    @property
    def total(self) -> int:
        """All that ended."""
        return self.ok + sum(self.failed.values())

    def __repr__(self) -> str:
        failed = f"failed: {dict(self.failed)}, {self.refused} of {self.connections} connections refused"
        return f"{self.ok} ok, {failed}, marks: {dict(self.marks)}"


class Caller(asyncio.Protocol):
    """One client. `keep`: it keeps its connection; `pause`: seconds it waits between two requests."""

    def __init__(self, load: Load, number: int, port: int, keep: bool, pause: float) -> None:
        self.load, self.number, self.port, self.keep, self.pause = load, number, port, keep, pause
        self.count = 0
        self.transport: Any = None
        self.token = ""  # of the request under way
        self.buffer = b""
        self.closing = False  # ours to close, or announced
        self.over = False

    async def connect(self) -> None:
        """Begin with a connection."""
        self.load.outcome.connections += 1
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, self.load.host, self.port)
        except ConnectionRefusedError:
            self.load.outcome.refused += 1
            loop.call_later(0.05, self.reconnect)
        except OSError as error:
            self.failed(f"connect: {error.strerror or error}")
            loop.call_later(0.05, self.reconnect)

    def reconnect(self) -> None:
        """Another connection, unless it is time to go."""
        if self.load.stopping:
            self.end()
        else:
            self.load.run(self.connect())

    def end(self) -> None:
        """No more requests."""
        if not self.over:
            self.over = True
            self.load.left(self)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.closing = False
        self.ask()

    def ask(self) -> None:
        """Send the next request."""
        if self.load.stopping or self.transport.is_closing():
            self.leave()
            return
        self.count += 1
        self.token = f"{self.number}-{self.count}"
        path = self.load.path.replace("TOKEN", self.token)
        close = "" if self.keep else "connection: close\r\n"
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: test\r\n{close}\r\n".encode())

    def leave(self) -> None:
        """Close, and open another if there is more to ask."""
        self.closing = True
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        missing = int(headers[b"content-length"]) - len(body)
        if missing > 0:
            return
        self.buffer = b""
        self.verify(lines[0].split(b" ")[1].decode(), headers, body.decode(), missing)

    def verify(self, status: str, headers: dict[bytes, bytes], body: str, missing: int) -> None:
        """A reply is complete: is it the one to our request?"""
        token, self.token = self.token, ""
        outcome = self.load.outcome
        if missing:
            outcome.failed["more bytes than announced"] += 1
        elif status != "200":
            outcome.failed[f"status {status}: {body[:200]}"] += 1
        elif body != token:
            outcome.failed[f"asked {token}, answered {body[:40]}"] += 1
        else:
            outcome.ok += 1
            mark = headers.get(self.load.mark)
            if mark is not None:
                outcome.marks[mark.decode()] += 1
        if not self.keep or headers.get(b"connection") == b"close" or self.load.stopping:
            self.leave()
        elif self.pause:
            asyncio.get_running_loop().call_later(self.pause, self.ask)
        else:
            self.ask()

    def failed(self, reason: str) -> None:
        """The request under way got no reply."""
        self.token = self.buffer = ""  # type: ignore[assignment]
        self.load.outcome.failed[reason] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self.token:
            how = "in its reply" if self.buffer else "before its reply"
            self.failed(f"{'reset' if exc else 'closed'} {how}")
        elif not self.closing:
            self.failed("closed between two requests without a word")
        self.buffer = b""
        self.reconnect()


class Load:
    """Callers in a thread of their own, from `start` to `stop`: `with Load(port, keep_alive=8, fresh=8) as load`."""

    def __init__(
        self,
        *ports: int,
        keep_alive: int = 0,
        fresh: int = 0,
        patient: int = 0,
        path: str = "/echo/TOKEN",
        mark: str = "x-generation",
        host: str = "127.0.0.1",
    ) -> None:
        """So many callers of each kind per port: those that keep their connection, those with one connection per
        request, and patient ones that keep theirs and are idle most of the time.
        """
        self.host = host
        self.path = path
        self.mark = mark.encode()
        self.outcome = Outcome()
        self.stopping = False
        self._kinds = [(keep_alive, True, 0.0), (fresh, False, 0.0), (patient, True, 0.03)]
        self._ports = ports
        self._callers: set[Caller] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = uvloop.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reach(self, requests: int) -> None:
        """Wait until so many more requests have ended."""
        aim = self.outcome.total + requests
        for _ in range(int(WAIT / 0.005)):
            if self.outcome.total >= aim:
                return
            self._thread.join(0.005)
        raise AssertionError(f"the load came to a standstill: {self.outcome}")

    def stop(self) -> Outcome:
        """Let each caller finish what it asked for, and say what became of all."""
        self.stopping = True
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), f"some wait for their replies still: {self.outcome}"
        return self.outcome

    def run(self, coroutine: Any) -> None:
        """Run `coroutine` in the load's loop; for callers."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def left(self, caller: Caller) -> None:
        """That one is done; for callers."""
        self._callers.discard(caller)
        if not self._callers:
            self._ended.set()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        for port in self._ports:
            for count, keep, pause in self._kinds:
                for _ in range(count):
                    caller = Caller(self, len(self._callers), port, keep, pause)
                    self._callers.add(caller)
        for caller in list(self._callers):
            self.run(caller.connect())
        await self._ended.wait()
