"""Starts the insurer: every service a process, then gatewayd in front of them, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from gatewayd.core.tasks import spawn
from gatewayd.errors import GatewaydError

START_TIMEOUT = 30.0
"""Seconds in which all must answer."""
STOP_TIMEOUT = 5.0
"""Seconds a process has to end before it is killed."""
PR_SET_PDEATHSIG = 1
"""See prctl(2)."""
CONTROL = "127.0.0.1:9901"
"""Where the control listener is if the configuration does not say."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process: module `gatewayd.demo.<name>`, the distance of its port from the base, its switches."""

    name: str
    offset: int
    switches: tuple[str, ...] = ()


SERVICES = (
    Service("policies", 1),
    Service("policies", 11),
    Service("claims", 2),
    Service("quotes", 3),
    Service("quotes", 13, ("--flaky",)),
    Service("billing", 4),
    Service("documents", 5),
    Service("telematics", 6),
    Service("legacy", 7),
)


class DemoError(GatewaydError):
    """The demo cannot start or go on; the text says why and what to do."""


def main(conf: str = "", base: int = 9_100) -> None:
    """Run the demo until somebody stops it. Raises `DemoError`.

    `conf`: path of the configuration, "" for the repository's. `base`: what the services' ports count from.
    """
    asyncio.run(Insurer(find_conf(conf), base).run())


def find_conf(conf: str) -> Path:
    """The configuration: `conf` if given, else conf.toml here or beside the package. Raises `DemoError`."""
    here = [Path(conf)] if conf else [Path("conf.toml"), Path(__file__).parents[2] / "conf.toml"]
    for path in here:
        if path.is_file():
            return path.resolve()
    raise DemoError(f"no configuration at {' or '.join(map(str, here))}; name one with -c")


def ports_in_use(ports: Iterable[int]) -> list[int]:
    """Those of `ports` that cannot be had on 127.0.0.1."""
    busy = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                busy.append(port)
    return busy


def addresses(conf: Path) -> tuple[str, list[str]]:
    """Addresses of the control listener and of the others, those without TLS first, as `conf` has them.

    Raises `DemoError` if it cannot be read or has none.
    """
    try:
        document = tomllib.loads(conf.read_text())
    except tomllib.TOMLDecodeError as error:
        raise DemoError(f"{conf}: {error}") from None
    listeners = sorted(document.get("listeners", {}).values(), key=lambda listener: "tls" in listener)
    if not listeners:
        raise DemoError(f"{conf}: no listener in it")
    control = document.get("control", {}).get("address", CONTROL)
    return control, [listener["address"] for listener in listeners]


def _url(address: str) -> str:
    host, _, port = address.rpartition(":")
    anywhere = host in ("", "0.0.0.0", "[::]")  # noqa: S104 - compared, not bound
    return f"http://{'127.0.0.1' if anywhere else host}:{port}"


def _port(address: str) -> str:
    return "" if address.startswith("unix:") else address.rpartition(":")[2]


def _die_with(parent: int) -> None:
    """Ask for SIGTERM when the demo, process `parent`, dies, even by SIGKILL. Runs in a child before exec."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


class Insurer:
    """The processes of one demo."""

    def __init__(self, conf: Path, base: int) -> None:
        self.conf = conf
        self.services = {base + service.offset: service for service in SERVICES}
        control, listeners = addresses(conf)
        self.control, self.url = _url(control), _url(listeners[0])
        self.gateway_ports = [int(port) for port in map(_port, (control, *listeners)) if port]
        self.log = conf.parent / "run" / "access.log"
        self._processes: list[asyncio.subprocess.Process] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start everything, wait, stop everything. Raises `DemoError`."""
        self._refuse_busy_ports()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        try:
            await self._start_services()
            if not self._stop.is_set():
                await self._serve()
        finally:
            await self._end()

    async def _serve(self) -> None:
        gatewayd = await self._start_gatewayd()
        if not self._stop.is_set():
            print(commands(self.url, self.control, self.conf, self.log), flush=True)
        waiting = (spawn(self._stop.wait(), "demo stop"), spawn(gatewayd.wait(), "demo gatewayd"))
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if not self._stop.is_set():
            raise DemoError(f"gatewayd ended with exit code {gatewayd.returncode}")

    def _refuse_busy_ports(self) -> None:
        names = {port: service.name for port, service in self.services.items()}
        names |= dict.fromkeys(self.gateway_ports, "gatewayd")
        busy = [f"{port} ({names[port]})" for port in ports_in_use(names)]
        if busy:
            raise DemoError(f"ports in use: {', '.join(busy)}. Does another demo run? See `ss -ltnp`")

    async def _start_services(self) -> None:
        print(f"starting {len(self.services)} services of the insurer", flush=True)
        for port, service in self.services.items():
            await self._start(f"gatewayd.demo.{service.name}", "--port", str(port), *service.switches)
        await self._await_answers([f"http://127.0.0.1:{port}/health" for port in self.services])

    async def _start_gatewayd(self) -> asyncio.subprocess.Process:
        print(f"starting gatewayd with {self.conf}", flush=True)
        self.log.parent.mkdir(exist_ok=True)
        process = await self._start("gatewayd", "-c", str(self.conf), "run")
        await self._await_answers([f"{self.control}/readyz"])
        return process

    async def _start(self, module: str, *arguments: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", module, *arguments)
        # A session of its own: Ctrl-C reaches only the demo, which then ends the rest in order.
        process = await asyncio.create_subprocess_exec(
            *command, env=self._environment(), start_new_session=True, preexec_fn=partial(_die_with, os.getpid())
        )
        self._processes.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        ours = {"GATEWAYD__ACCESS_LOG__PATH": str(self.log), "GATEWAYD__GATEWAY__DRAIN_TIMEOUT": "2s"}
        return ours | os.environ

    async def _await_answers(self, urls: list[str]) -> None:
        """Wait until each of `urls` answers 200 or the demo is stopped. Raises `DemoError`."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    for url in urls:
                        while not self._stop.is_set() and not await _answers(session, url):
                            self._refuse_dead()
                            await asyncio.sleep(0.1)
            except TimeoutError:
                raise DemoError(f"{url} did not answer within {START_TIMEOUT:.0f} seconds") from None

    def _refuse_dead(self) -> None:
        ended = [process for process in self._processes if process.returncode is not None]
        if ended and not self._stop.is_set():
            raise DemoError(f"a process ended with exit code {ended[0].returncode} before it answered")

    async def _end(self) -> None:
        """End gatewayd first, so that it can drain while its upstreams live."""
        print("stopping", flush=True)
        for process in reversed(self._processes):
            if process.returncode is None:
                process.terminate()
            if process is self._processes[-1]:
                await _ended(process)
        for process in self._processes:
            await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a process that was asked to end; whoever takes too long is told, then made to."""
    for harder in (signal.SIGQUIT, signal.SIGKILL):
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
                return
        except TimeoutError:
            process.send_signal(harder)
    await process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def commands(url: str, control: str, conf: Path, log: Path) -> str:
    """What to try: a line for each thing the demo shows."""
    python = _short(Path(sys.executable))
    gatewayd = f"{python} -m gatewayd" + ("" if conf == Path.cwd() / "conf.toml" else f" -c {conf}")
    return f"""
gatewayd listens on {url}, its control listener on {control}. In another terminal:

  policies    curl -i {url}/v1/policies/POL-000123      # X-Served-By: which of two targets
  claims      curl -i {url}/v1/claims -d '{{"policy": "POL-000123", "loss": "hail"}}'
  quotes      for i in $(seq 20); do curl -s -o /dev/null -w '%{{http_code}} ' \\
                '{url}/v1/quotes?product=motor&age=34&value=18000'; done   # one target is flaky
  billing     curl -s {url}/v1/billing/accounts/POL-000123
  documents   curl -o archive.pdf {url}/v1/documents/DOC-000123.pdf    # 50 MB; -r 0-99: a range
              curl -T archive.pdf {url}/v1/documents/DOC-000123
  telematics  curl -N {url}/v1/telematics/events        # server-sent events
              {python} -m websockets ws{url[4:]}/v1/telematics/stream
  legacy      curl -i '{url}/legacy/POLINQ?POLNO=000123'        # one to three seconds
  refusals    curl -i {url}/v2/policies; curl -i -X DELETE {url}/v1/policies/POL-000123

  which way   {gatewayd} explain GET {url}/v1/policies/POL-000123
  table       {gatewayd} routes
  reload      {gatewayd} reload        # after a change to conf.toml; a wrong one changes nothing
  live        {gatewayd} top
  calls       {gatewayd} logs -f
  figures     {gatewayd} stats top route        # compare, series
  proof       {gatewayd} audit verify
  watch       {gatewayd} status
              curl -s {control}/metrics
              tail -f {_short(log)}

Ctrl-C stops everything.
"""
