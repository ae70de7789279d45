"""What machine this is, and which of its cores do what."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from math import ceil
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

VERSION_COMMANDS = {
    "nginx": ["nginx", "-v"],
    "haproxy": ["haproxy", "-v"],
    "caddy": ["caddy", "version"],
    "wrk": ["wrk", "-v"],
}
LIBRARIES = ("aiohttp", "httptools", "uvloop", "hdrhistogram")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cores the proxy under test, the load and the upstream run on, for proxies of up to `workers` workers."""

    workers: int
    proxy: tuple[int, ...]
    load: tuple[int, ...]
    upstream: tuple[int, ...]

    @property
    def separate(self) -> bool:
        """Every worker has a core, and no core has two of the three jobs."""
        shared = (set(self.proxy) & set(self.load)) | (set(self.load) & set(self.upstream))
        return not shared and len(self.proxy) >= self.workers

    def describe(self) -> str:
        """One line for the report."""
        if set(self.proxy) & set(self.load):
            return f"proxy, load and upstream share {_cores(self.proxy)}"
        crowd = "" if len(self.proxy) >= self.workers else f" ({self.workers} workers share it)"
        if self.load == self.upstream:
            return f"proxy on {_cores(self.proxy)}{crowd}, load and upstream share {_cores(self.load)}"
        return f"proxy on {_cores(self.proxy)}{crowd}, load on {_cores(self.load)}, upstream on {_cores(self.upstream)}"

    def for_workers(self, workers: int) -> tuple[int, ...]:
        """The cores of a proxy with so many workers: one each, as far as there are."""
        return self.proxy[:workers]


def _cores(cores: Sequence[int]) -> str:
    return ("core " if len(cores) == 1 else "cores ") + ",".join(map(str, cores))


def allowed_cores() -> list[int]:
    """Cores this process may use, one of each physical core first, its further hardware threads behind."""
    firsts: list[int] = []
    others: list[int] = []
    for core in sorted(os.sched_getaffinity(0)):
        (firsts if _siblings(core)[0] == core else others).append(core)
    return firsts + others


def _siblings(core: int) -> list[int]:
    """Hardware threads of the physical core that `core` belongs to, itself included; ascending."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
    except OSError:
        return [core]
    return sorted(int(number) for number in re.findall(r"\d+", text)) or [core]


def layout(cores: Sequence[int], workers: int) -> Layout:
    """Spread the three jobs over `cores` for proxies of up to `workers` workers.

    The proxy gets one core a worker but leaves a quarter of the machine, at least one core, to load and upstream; where
    that is too few, workers share cores, so that CPU per request stays comparable and throughput does not. Of the
    rest the upstream gets half as many cores as the proxy, the load up to as many; where one is left, they share it.
    """
    everything = tuple(cores)
    if len(everything) == 1:
        return Layout(workers, everything, everything, everything)
    proxies = min(workers, len(everything) - max(1, len(everything) // 4))
    proxy, rest = everything[:proxies], everything[proxies:]
    if len(rest) == 1:
        return Layout(workers, proxy, rest, rest)
    upstream = min(ceil(proxies / 2), len(rest) // 2)
    load = min(len(rest) - upstream, proxies)
    return Layout(workers, proxy, rest[upstream : upstream + load], rest[:upstream])


def describe_machine(arguments: Sequence[str]) -> dict[str, Any]:
    """Machine, versions and command of a run, as kept in results. Nothing in it names the host or its folders."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["./scripts/bench", *arguments]),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads_per_core": max(len(_siblings(core)) for core in os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def versions() -> dict[str, str]:
    """Version of everything that takes part; programs that are not installed are left out."""
    found = {"python": platform.python_version(), "gatewayd": metadata.version("gatewayd")}
    commit = _first_line(["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], r"^[0-9a-f]{7,}$")
    if commit:
        found["gatewayd"] += f" ({commit})"
    for library in LIBRARIES:
        found[library] = metadata.version(library)
    for program, command in VERSION_COMMANDS.items():
        if version := _first_line(command, r"\d+\.\d+(?:\.\d+)?"):
            found[program] = version
    return found


def _first_line(command: list[str], pattern: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[0] if found else ""


def prepare() -> None:
    """Lift the soft limit of open files to the hard one, and look for programs where Debian puts servers: children
    inherit both."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ["PATH"] = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin"


def complain(text: str) -> None:
    """A line for the person at the terminal; standard output is for results alone."""
    print(text, file=sys.stderr, flush=True)
