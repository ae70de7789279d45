"""A control listener with one part alone: asked within its loop, or over a socket by somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gatewayd.collect.part import Part


def application(part: Part) -> web.Application:
    """What serves the part."""
    app = web.Application()
    app.add_routes(part.routes())
    return app


@contextlib.asynccontextmanager
async def client_of(part: Part) -> AsyncIterator[TestClient]:
    """A caller of the part, which is closed behind it."""
    client = TestClient(TestServer(application(part)))
    async with client:
        yield client
        await part.close()


@contextlib.contextmanager
def served(part: Part, path: Path | None = None) -> Iterator[str]:
    """The control address of the part, which another thread serves: a port, or the unix socket `path`."""
    begun, address, loop = threading.Event(), [], asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(application(part), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.UnixSite(runner, str(path)) if path else web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(f"unix:{path}" if path else f"127.0.0.1:{runner.addresses[0][1]}")
        begun.set()
        await over.wait()
        await part.close()
        await runner.cleanup()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(10)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
