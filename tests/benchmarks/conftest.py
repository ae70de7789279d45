"""An aiohttp server on a free port, in a thread, for what needs a real one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web


class Server:
    """Answers GET / with 200, /missing with 404, /close with a reply behind which it closes, /stall once and late."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0
        self.bodies: list[int] = []
        self.asked: list[tuple[str, str]] = []
        self.stalled = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Serve no more."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        self.requests += 1
        self.bodies.append(len(await request.read()))
        self.asked.append((request.path, request.headers.get("X-Key", "")))
        if request.path == "/stall" and not self.stalled.is_set():
            self.stalled.set()
            await asyncio.sleep(0.5)
        reply = web.Response(status=404 if request.path == "/missing" else 200, text="hello")
        if request.path == "/close":
            reply.force_close()
        return reply


@pytest.fixture
def server() -> Iterator[Server]:
    """One that serves."""
    found = Server()
    found.start()
    yield found
    found.stop()
