"""How many calls each kind of sink sends: `python -m tests.collect.sinks.speed [file postgres clickhouse syslog]`.

100,000 made-up calls from a store to a target on this machine, in batches of the default size. Shown is what they took
by the clock, and in CPU time of this process, which is what the control process would pay.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatewayd.collect.shipping import made
from gatewayd.collect.sinks.sink import Runner
from gatewayd.collect.store import Store
from gatewayd.config.sinks import AnySink, ClickhouseSink, FileSink, PostgresSink, SyslogSink

from ...support.postgres_server import PostgresProcess
from .recorded import ORIGIN, put

CALLS = 100_000
DISCARD = """
import socket, sys
from aiohttp import web
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
async def discard(request):
    await request.read()
    return web.Response()
if sys.argv[1] == "http":
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/", discard)
    web.run_app(app, sock=sock, print=None)
else:
    connection, _ = sock.accept()
    while connection.recv(1 << 20):
        pass
"""


@contextmanager
def discarding(protocol: str) -> Iterator[int]:
    """The port of a process that throws away what it is sent."""
    with subprocess.Popen([sys.executable, "-c", DISCARD, protocol], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def target(kind: str, folder: Path) -> Iterator[AnySink]:
    """A sink and what it sends to."""
    if kind == "file":
        yield FileSink(path=str(folder / "calls.ndjson"))
    elif kind == "postgres":
        with PostgresProcess(fsync="on", full_page_writes="on") as server:
            yield PostgresSink(url=server.url, tls="off")
    elif kind == "clickhouse":
        with discarding("http") as port:
            yield ClickhouseSink(url=f"http://127.0.0.1:{port}")
    elif kind == "syslog":
        with discarding("tcp") as port:
            yield SyslogSink(address=f"127.0.0.1:{port}")
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            yield SyslogSink(address=f"127.0.0.1:{sock.getsockname()[1]}", transport="udp")


async def at_once(_: float) -> bool:
    """Ends a runner when it has nothing to do."""
    return True


def main(kinds: list[str]) -> None:
    """Measure each and print a line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store: Any = Store(folder / "calls.duckdb")
        for chain in ("calls-0", "calls-1"):
            put(store, CALLS // 2, chain)
        for kind in kinds or ["file", "postgres", "clickhouse", "syslog", "syslog-udp"]:
            with target(kind, folder) as config:
                runner = Runner(kind, config, made(config, ORIGIN), lambda: store, at_once)
                begun, used = time.perf_counter(), time.process_time()
                asyncio.run(runner.run())
                took, used = time.perf_counter() - begun, time.process_time() - used
            assert (runner.sent, runner.failures) == (CALLS, 0)
            print(f"{kind:12}{CALLS / took:10,.0f} calls/s{used / CALLS * 1e6:8.1f} µs of CPU each")
        store.close()


if __name__ == "__main__":
    main(sys.argv[1:])
