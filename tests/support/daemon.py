"""A real daemon: started from a document in a folder of its own, on free ports, and never left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

ROOT = Path(__file__).parents[2]
WAIT = 60.0
"""Seconds any step may take before a test is given up; never a measure of speed."""
FULL = bool(os.environ.get("GATEWAYD_FULL"))
"""Whether tests are to do all that is promised, and not only what shows it."""

Document = dict[str, Any]


def proxied(*addresses: str, **service: Any) -> Document:
    """A document that sends everything to the targets at `addresses`; `service` adds options to the service."""
    return {
        "upstreams": {"up": {"targets": [{"address": address} for address in addresses]}},
        "services": {"up": {"upstream": "up", **service}},
        "routes": {"all": {"path": "/*", "service": "up"}},
    }


def marked(document: Document, generation: int) -> Document:
    """`document` with every reply of its routes saying which generation it is of."""
    mark = {"policy": "headers", "reply": {"set": {"x-generation": str(generation)}}}
    gateway = {**document.get("gateway", {}), "policies": ["mark"]}
    return {**document, "gateway": gateway, "policies": {**document.get("policies", {}), "mark": mark}}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WAIT)
        self._path = path

    def connect(self) -> None:
        """To the socket's file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WAIT)
        self.sock.connect(self._path)


class Daemon:
    """`with Daemon(document) as daemon`: it serves inside. Listeners without an address get a free port.

    Probes and status are asked over a unix socket in its folder, so nothing has to be guessed before it runs. Without
    `start` it is only written down, for `command` and `launch`.
    """

    def __init__(self, document: Document, *, start: bool = True, descriptors: int = 0, **environ: str) -> None:
        """`descriptors`: how many files each of its processes may have open at most; 0: as many as this one."""
        self.folder = Path(tempfile.mkdtemp(prefix="gatewayd-"))
        self.conf = self.folder / "conf.toml"
        self.log_path = self.folder / "daemon.log"
        self.access_log = self.folder / "access.log"
        self.pid = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._start = start
        self._descriptors = descriptors
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
        self._groups: list[int] = []
        self.write(document)

    # -- the configuration --------------------------------------------------------------------------------------

    def write(self, document: Document) -> None:
        """Make this its configuration, from the next reload on."""
        listeners = document.get("listeners") or {"http": {}}
        whole = {
            "control": {"address": f"unix:{self.folder}/control.sock"},
            "access_log": {"path": str(self.access_log)},
            **document,
            "listeners": {name: {"address": "127.0.0.1:0", **each} for name, each in listeners.items()},
        }
        self.write_text(tomli_w.dumps(whole))

    def write_text(self, text: str) -> None:
        """The same as text; it replaces the file in one step, as editors do."""
        other = self.folder / "conf.new"
        other.write_text(text)
        other.replace(self.conf)

    # -- its life -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Daemon:
        if self._start:
            try:
                self.launch()
                self.wait_until_ready()
            except BaseException as error:
                self.__exit__(type(error))
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for group in self._groups:
            if members(group):
                os.killpg(group, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(WAIT)
        log = self.log
        shutil.rmtree(self.folder)
        if kind is not None:
            print(log)

    def launch(self) -> None:
        """Start the process, in a group of its own so that all it starts can be found."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run"),
                stdout=log,
                stderr=log,
                env=self._environ,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=self._limit if self._descriptors else None,
            )
        self.pid = self.process.pid
        self._groups.append(self.pid)

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors, self._descriptors))

    def command(self, *words: str) -> list[str]:
        """The command line that does `words` with this configuration."""
        return [sys.executable, "-m", "gatewayd", "-c", str(self.conf), *words]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of gatewayd's to its end."""
        command = self.command(*words)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=WAIT, check=False, env=self._environ, cwd=self.folder
        )

    def wait_until_ready(self, generation: int = 0) -> None:
        """Wait until every worker serves, `generation` at least."""

        def ready() -> bool:
            status, body = self.probe("/readyz")
            return status == 200 and bool(body["generation"] >= generation)

        self.wait_for(ready, "ready")

    def wait_for(self, condition: Callable[[], object], what: str = "") -> None:
        """Look again and again until `condition()` holds; its last error, if it never does."""
        wait_for(condition, what, self.fallen)

    def fallen(self) -> str:
        """Why nothing more can be expected of it, "" if it runs."""
        if self.process is not None and self.process.poll() is not None and not self.members():
            return f"the daemon ended with {self.process.returncode}"
        return ""

    def signal(self, number: signal.Signals) -> None:
        """Signal the supervisor."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for the end of the supervisor that was started, and of everything it started; its exit status."""
        assert self.process is not None
        code = self.process.wait(WAIT)
        wait_for(lambda: not self.members(), "every process gone")
        return code

    def terminate(self) -> int:
        """SIGTERM, and wait for the end."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def reload(self) -> int:
        """Reload by its control listener: the generation that serves now."""
        status, body = self.ask("POST", "/reload")
        assert status == 200, body
        generation: int = json.loads(body)["generation"]
        return generation

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body of a reply of the control process. Raises `OSError`, `http.client.HTTPException`."""
        connection = _UnixConnection(str(self.folder / "control.sock"))
        try:
            connection.request(method, path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    # -- what there is to see ---------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """What it said on stderr and stdout so far."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def probe(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a probe; status 0 if nobody answers."""
        try:
            status, body = self.ask("GET", path)
        except (OSError, http.client.HTTPException):
            return 0, None
        return status, json.loads(body)

    def status(self) -> Any:
        """What `/status` says."""
        status, body = self.probe("/status")
        assert status == 200, body
        return body

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 if it is not on the page."""
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    def port(self, listener: str = "http") -> int:
        """The port that a listener got."""
        return int(self.status()["listeners"][listener]["address"].rpartition(":")[2])

    def url(self, path: str = "", listener: str = "http") -> str:
        """A URL at a listener."""
        return f"http://127.0.0.1:{self.port(listener)}{path}"

    def workers(self) -> list[int]:
        """Process ids of the workers that serve."""
        return [each["pid"] for each in self.status()["workers"] if each["state"] == "serving"]

    def members(self) -> set[int]:
        """Every process that belongs to it, whoever its parent is now."""
        return {pid for group in self._groups for pid in members(group)}

    def control_pid(self) -> int:
        """The control process."""
        for pid in self.members():
            if b"gatewayd.server.control" in command_of(pid):
                return pid
        raise AssertionError("there is no control process")


def wait_for(condition: Callable[[], object], what: str = "", fallen: Callable[[], str] = str) -> None:
    """Look again and again until `condition()` holds. `fallen` says why it never will."""
    deadline = time.monotonic() + WAIT
    while not condition():
        reason = fallen()
        assert not reason, f"{what}: {reason}"
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        pace(0.01)


def pace(seconds: float) -> None:
    """The time between two looks at a condition, or between two reads of a slow reader; never a wait for luck."""
    threading.Event().wait(seconds)


def members(group: int) -> set[int]:
    """The living processes of a process group (proc(5): `stat`)."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.add(int(name))
    return found


def command_of(pid: int) -> bytes:
    """Its command line, b"" if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def listening(pid: int, port: int) -> set[str]:
    """The sockets on which a process listens at `port`, by inode (proc(5): `fd`, `net/tcp`)."""
    wanted, found = f":{port:04X}", set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[1].endswith(wanted):
            found.add(f"socket:[{fields[9]}]")
    return found & open_files(pid)


def open_files(pid: int) -> set[str]:
    """What a process has open, as proc(5) names it (`fd`)."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def resident(pid: int) -> int:
    """Bytes of memory a process has resident, as `VmRSS` says (proc(5): `status`)."""
    return _field(f"/proc/{pid}/status", "VmRSS")


def proportional(pid: int) -> int:
    """The same with pages that several processes share divided among them (proc(5): `smaps_rollup`)."""
    return _field(f"/proc/{pid}/smaps_rollup", "Pss")


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{path} does not tell {name}")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """An access log's lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
