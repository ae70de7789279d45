"""A daemon whose workers are stand-ins, run as a program: `standin_daemon.py CONF`. And a scene to drive one in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from gatewayd.errors import ConfigError, GatewaydError
from gatewayd.server import log
from gatewayd.server.prepare import Rules
from gatewayd.server.running import ask
from gatewayd.server.supervisor import Commands, Supervisor

WAIT = 20
WORKER = (sys.executable, "-P", str(Path(__file__).with_name("standin.py")))
CONF = """\
[gateway]
name = "{name}"
workers = {workers}
drain_timeout = "{drain}"
pid_file = "{folder}/{pid}.pid"
[control]
address = "unix:{folder}/{control}.sock"
[listeners.{listener}]
address = "{address}"
[routes.all]
path = "/*"
reply = {{ body = "hello" }}
"""


class Scene:
    """One daemon in a folder, talked to as its callers and its operator would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.control = f"unix:{folder}/control.sock"
        self.environ: dict[str, str] = {}
        self.process: subprocess.Popen[bytes]
        self.stderr = asyncio.StreamReader()
        self.said: list[str] = []
        self.conf = {
            "name": "gatewayd",
            "workers": 2,
            "drain": "20s",
            "folder": folder,
            "pid": "gatewayd",
            "control": "control",
            "listener": "http",
            "address": f"127.0.0.1:{self.port}",
        }

    def write(self, **changes: object) -> None:
        """Write the configuration, with these changes from now on."""
        self.conf |= changes
        (self.folder / "conf.toml").write_text(CONF.format(**self.conf))

    async def start(self, until: str = "generation 1 serves") -> None:
        """Start it and wait until it says so."""
        self.write()
        command = [sys.executable, __file__, f"{self.folder}/conf.toml"]
        environ = {**os.environ, **self.environ}
        self.process = await asyncio.to_thread(
            partial(subprocess.Popen, command, stderr=subprocess.PIPE, env=environ, start_new_session=True)
        )
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self.stderr), self.process.stderr)
        await self.until(until)

    async def ended(self) -> int:
        """The exit status of the first process; those it was replaced by may still run."""
        return await asyncio.to_thread(self.process.wait, WAIT)

    async def until(self, text: str) -> str:
        """The next line of the log that has `text` in it."""
        while line := (await self.stderr.readline()).decode():
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError("".join(self.said))

    async def rest(self) -> str:
        """What is said until every process of the daemon is gone."""
        self.said.append((await self.stderr.read()).decode())
        return "".join(self.said)

    def signal(self, number: signal.Signals, pid: int = 0) -> None:
        """Signal the supervisor."""
        os.kill(pid or self.process.pid, number)

    async def eventually(self, look: Callable[[], Awaitable[Any]], condition: Callable[[Any], bool]) -> Any:
        """What there is to see once `condition` holds of it."""
        while True:
            if condition(found := await look()):
                return found
            await asyncio.sleep(0.01)

    async def ask(self, path: str, method: str = "GET") -> tuple[int, dict]:
        """Ask the control process."""
        return await asyncio.to_thread(ask, self.control, method, path, WAIT)

    async def status(self) -> dict:
        """The daemon's status."""
        return (await self.ask("/status"))[1]

    async def who(self, text: bytes = b"who") -> dict:
        """What answers a caller."""
        told, writer = await self.call(text)
        writer.close()
        return told

    async def call(self, text: bytes) -> tuple[dict, asyncio.StreamWriter]:
        """A connection, after its first reply."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        return json.loads(await reader.readline()), writer

    def end(self) -> None:
        """End whatever still runs; all of it is in the group of the first process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def play(folder, scenario):
    """Run `scenario(scene)` and leave nothing behind."""

    async def run():
        scene = Scene(folder)
        try:
            async with asyncio.timeout(WAIT):
                return await scenario(scene)
        finally:
            scene.end()
            await scene.ended()
            print(await scene.rest())

    return asyncio.run(run())


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def main() -> None:
    """Serve the configuration that the command line names."""
    log.set_up("supervisor")

    async def run() -> None:
        await Supervisor(sys.argv[1], os.environ, lambda: Rules({}, lambda *_, **__: []), Commands(worker=WORKER)).run()

    try:
        asyncio.run(run())
    except ConfigError as error:
        sys.exit(f"configuration: {error}")
    except GatewaydError as error:
        sys.exit(f"start: {error}")


if __name__ == "__main__":
    main()
