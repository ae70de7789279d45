"""One run of the benchmarks: its options, its folder, its processes, its upstreams and proxies."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks import certificate, proxies
from benchmarks.machine import REPOSITORY, Layout, allowed_cores, layout
from benchmarks.processes import Processes, Running, StartError, free_port, listens, move, wait_until
from benchmarks.proxies import Proxy, Setup, render
from benchmarks.upstream import DOCUMENT, LARGE


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for. `seconds`: length of a round (whole seconds: wrk counts in those)."""

    peers: tuple[str, ...] = proxies.PEERS
    rounds: int = 7
    seconds: int = 2
    workers: int = 1
    quick: bool = False


@dataclass(slots=True)
class Target:
    """An upstream that runs. `kind`: what serves it, for the report."""

    kind: str
    port: int
    programs: list[Running]

    def pids(self) -> list[int]:
        """Its processes."""
        return [pid for program in self.programs for pid in program.pids()]


class Harness:
    """Starts what a scenario needs and stops it behind the scenario. Use as a context."""

    def __init__(self, options: Options, say: Callable[[str], None] = lambda text: None) -> None:
        self.options = options
        self.say = say
        self.processes = Processes()
        self.folder = Path()
        self.layout: Layout
        self.arrange(options.workers)
        self.skipped: dict[str, str] = {}
        self._names = count()

    def __enter__(self) -> Harness:
        self.folder = Path(tempfile.mkdtemp(prefix="gatewayd-bench-"))
        self.folder.chmod(0o755)
        self.processes.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.processes.__exit__(*exc)
        shutil.rmtree(self.folder, ignore_errors=True)

    def arrange(self, workers: int) -> None:
        """Deal the cores out for proxies of up to `workers` workers."""
        self.layout = layout(allowed_cores(), workers)

    def stop_all(self) -> None:
        """Stop what the last scenario started."""
        self.processes.stop_all()

    def new_folder(self, name: str) -> Path:
        """A folder nobody uses yet; not made."""
        return self.folder / f"{next(self._names)}-{name}"

    def peers(self) -> list[str]:
        """The peers asked for that are installed; the others are noted as skipped."""
        found = []
        for name in self.options.peers:
            if reason := proxies.KINDS[name].missing():
                self.skipped[name] = reason
            else:
                found.append(name)
        return found

    def everyone(self, setup: Setup) -> list[Proxy]:
        """gatewayd and the peers, gatewayd first. A peer that does not start is skipped, with its reason."""
        found = [self.proxy("gatewayd", setup)]
        for name in self.peers():
            try:
                found.append(self.proxy(name, setup))
            except StartError as error:
                self.skipped[name] = str(error)
        return found

    def certificate(self) -> tuple[Path, Path]:
        """A certificate and its key."""
        folder = self.new_folder("certificate")
        folder.mkdir()
        return certificate.write(folder)

    def proxy(self, kind: str, setup: Setup, name: str = "", cores: Sequence[int] = ()) -> Proxy:
        """Start a proxy on as many cores as it has workers; what no request waits for goes to those of the load."""
        self.say(f"starting {name or kind}")
        on = cores or self.layout.for_workers(setup.workers)
        proxy = proxies.start(self.processes, kind, setup, self.new_folder(name or kind), on, name)
        for pid in proxy.aside():
            move(pid, self.layout.load)
        return proxy

    def target(self, delay: float = 0.0, own: bool = False) -> Target:
        """Start an upstream: nginx, or the one of `benchmarks.upstream` where `own` features or a delay are needed."""
        self.say("starting the upstream")
        if own or delay or shutil.which("nginx") is None:
            return self._own_target(delay)
        folder = self.new_folder("upstream")
        folder.mkdir()
        (folder / "large").write_bytes(LARGE)
        port = free_port()
        text = render(
            "upstream.nginx.conf",
            user=proxies.user_line(),
            workers=len(self.layout.upstream),
            files=proxies.file_limit(),
            folder=folder,
            port=port,
            document=DOCUMENT.decode(),
        )
        (folder / "nginx.conf").write_text(text)
        argv = ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        return self._started("nginx", port, [argv], folder)

    def _own_target(self, delay: float) -> Target:
        folder = self.new_folder("upstream")
        folder.mkdir()
        port = free_port()
        argv = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port), "--delay", str(delay)]
        # Bytes are counted by process, so the counting one stands alone.
        return self._started("benchmarks.upstream", port, [argv] * (len(self.layout.upstream) if delay else 1), folder)

    def _started(self, kind: str, port: int, commands: list[list[str]], folder: Path) -> Target:
        programs = [
            self.processes.start(
                "upstream",
                argv,
                log=folder / f"output-{index}.log",
                cores=self.layout.upstream,
                cwd=REPOSITORY,
            )
            for index, argv in enumerate(commands)
        ]
        for program in programs:
            wait_until(lambda: listens(port), program)
        return Target(kind, port, programs)
