"""Processes the harness starts, pinned, and what the kernel says they used. Whatever starts here is stopped here."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

NANOSECONDS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class StartError(Exception):
    """A process did not come up; the text ends with the last lines it wrote."""


@contextlib.contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Run the block on `cores`. Children started inside inherit that, with no moment in between on other cores."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, cores: Sequence[int]) -> None:
    """Have all threads of a process run on `cores` from now on, and what they start."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


class Running:
    """A started program and all processes descended from it: they share its kernel session, whoever their parent is."""

    def __init__(self, name: str, popen: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self.popen = popen
        self.log = log

    def __repr__(self) -> str:
        return f"<Running {self.name} pid={self.popen.pid} returncode={self.popen.poll()}>"

    def pids(self) -> list[int]:
        """Every process of this program, the first one first."""
        return session_pids(self.popen.pid)

    def tail(self, lines: int = 12) -> str:
        """The last lines it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def stop(self, timeout: float = 5.0) -> None:
        """SIGTERM to the whole group, SIGKILL after `timeout` seconds to what is left. Any number of times."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout)
        deadline = time.monotonic() + timeout
        while session_pids(self.popen.pid) and time.monotonic() < deadline and self.popen.poll() is not None:
            time.sleep(0.01)
        self._signal(signal.SIGKILL)
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _signal(self, number: int) -> None:
        if session_pids(self.popen.pid) or self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)


class Processes:
    """Everything one run started. Leaving the block, an exit, SIGINT, SIGTERM and SIGHUP all stop it."""

    def __init__(self) -> None:
        self._running: list[Running] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Processes:
        atexit.register(self.stop_all)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, _leave)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop_all()
        atexit.unregister(self.stop_all)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        cores: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        talk: bool = False,
    ) -> Running:
        """Start `argv` on `cores` in a process group of its own. Both its outputs go to `log`; with `talk` standard
        input and output are pipes instead and only errors go there."""
        with log.open("ab") as output, pinned(cores):
            pipe: int | IO[bytes] = subprocess.PIPE if talk else output
            popen = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=pipe,
                stderr=output,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                text=True,
                start_new_session=True,
            )
        running = Running(name, popen, log)
        self._running.append(running)
        return running

    def stop(self, running: Running) -> None:
        """Stop one of them."""
        running.stop()
        if running in self._running:
            self._running.remove(running)

    def stop_all(self) -> None:
        """Stop what still runs, last started first."""
        while self._running:
            self._running.pop().stop()


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def free_port() -> int:
    """A TCP port of the loopback nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], running: Running, seconds: float = 20.0) -> None:
    """Poll until `condition`; `StartError` if the process ends or `seconds` pass first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if running.popen.poll() is not None:
            raise StartError(f"{running.name} ended with status {running.popen.returncode}:\n{running.tail()}")
        if time.monotonic() > deadline:
            raise StartError(f"{running.name} was not ready after {seconds:g} s:\n{running.tail()}")
        time.sleep(0.005)


def listens(port: int) -> bool:
    """Whether something accepts connections at the port of the loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def session_pids(session: int) -> list[int]:
    """Live processes of a kernel session (proc(5): field 6 of stat), zombies left out."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields and fields[3] == str(session) and fields[0] != "Z":
                found.append(int(entry.name))
    return sorted(found)


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third (state) on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def command_line(pid: int) -> str:
    """Of a process; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def cpu_ns(pid: int) -> int:
    """Nanoseconds of CPU, user and system, that a process used (schedstat; ticks where the kernel has none)."""
    total = 0
    with contextlib.suppress(OSError):
        for thread in os.scandir(f"/proc/{pid}/task"):
            total += _thread_ns(thread.path)
    return total


def _thread_ns(path: str) -> int:
    try:
        return int(Path(path, "schedstat").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        pass
    try:
        fields = Path(path, "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) * NANOSECONDS_PER_TICK


def busy_ns() -> int:
    """Nanoseconds all cores of the machine together were not idle since boot, whoever used them; steal included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) * NANOSECONDS_PER_TICK


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a program's processes, bytes. `worker`: RSS of the largest of those that do the work."""

    worker: int
    tree_rss: int
    tree_pss: int


def memory(pids: Sequence[int], workers: int) -> Memory:
    """Memory of these processes now; the workers are the `workers` processes that have used most CPU."""
    busiest = sorted(pids, key=cpu_ns, reverse=True)[:workers]
    sizes = {pid: _rollup(pid) for pid in pids}
    return Memory(
        worker=max((sizes[pid][0] for pid in busiest), default=0),
        tree_rss=sum(rss for rss, _ in sizes.values()),
        tree_pss=sum(pss for _, pss in sizes.values()),
    )


def _rollup(pid: int) -> tuple[int, int]:
    """(RSS, PSS) in bytes (proc(5) smaps_rollup; RSS alone, as both, where that may not be read)."""
    sizes = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split(":")
            sizes[name] = int(value.split()[0]) * 1024
        return sizes["Rss"], sizes["Pss"]
    with contextlib.suppress(OSError):
        rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return rss, rss
    return 0, 0


def disk_bytes(pids: Sequence[int]) -> int:
    """Size of the regular files these processes hold open, unlinked ones included, shared memory not."""
    seen: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in os.scandir(f"/proc/{pid}/fd"):
                _add_file(fd.path, seen)
    return sum(seen.values())


def _add_file(path: str, seen: dict[tuple[int, int], int]) -> None:
    with contextlib.suppress(OSError):
        target = os.readlink(path)
        if target.startswith(("/memfd:", "/dev/")):
            return
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            seen[found.st_dev, found.st_ino] = found.st_size
