"""A load generator for HTTP/1.1: several processes, a fixed rate or as fast as it goes, HDR histograms.

    python -m benchmarks.generator http://127.0.0.1:8080/ --rate 5000 --connections 64 --duration 10 --processes 2

Without `--rate` each connection sends again when its reply is complete (closed loop). How time is taken: `load`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import histogram
from benchmarks.machine import REPOSITORY, complain, prepare
from benchmarks.processes import pinned

START_DELAY = 0.05
"""Seconds between the order and the first request: time for every process to have heard it."""

Watch = Callable[[int], None]
Ask = tuple[str, str]
"""(target, one more header line; "" for none)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send. `rate` in requests a second over all processes (None: closed loop), times in seconds.

    `asks`: what is asked in turn, whichever connection is free; none: the URL's own target, always. `sticky`: each
    connection asks one of them, always.
    """

    url: str
    connections: int = 64
    duration: float = 10.0
    rate: float | None = None
    poisson: bool = False
    processes: int = 1
    method: str = "GET"
    headers: tuple[str, ...] = ()
    body_size: int = 0
    timeout: float = 10.0
    insecure: bool = False
    asks: tuple[Ask, ...] = ()
    sticky: bool = False

    def orders(self) -> list[dict[str, Any]]:
        """One order for each process; connections are dealt out evenly."""
        parts = urlsplit(self.url)
        tls = parts.scheme == "https"
        shared = {
            **asdict(self),
            "tls": tls,
            "host": parts.hostname,
            "port": parts.port or (443 if tls else 80),
            "requests": self.requests(),
            "asks": None,
            "head_only": self.method == "HEAD",
        }
        share, more = divmod(self.connections, self.processes)
        return [
            {"index": index, "plan": {**shared, "connections": share + (index < more)}}
            for index in range(self.processes)
        ]

    def requests(self) -> list[str]:
        """The requests as they go over the wire, one character a byte."""
        parts = urlsplit(self.url)
        own = ((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), "")
        return [self._request(*ask) for ask in self.asks or (own,)]

    def _request(self, target: str, more: str) -> str:
        parts = urlsplit(self.url)
        lines = [f"{self.method} {target} HTTP/1.1", *self.headers, *([more] if more else [])]
        if not any(header.lower().startswith("host:") for header in self.headers):
            lines.insert(1, f"Host: {parts.netloc.rpartition('@')[2]}")
        if self.body_size or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {self.body_size}")
        return "\r\n".join(lines) + "\r\n\r\n" + "x" * self.body_size


@dataclass(slots=True)
class Outcome:
    """What came of a plan. `requests`: whole replies; `failed`: those with a bad status and all that got none.

    `late_p99_ms`: how late the generator itself sent requests that had a free connection; None in closed loop.
    Latencies in milliseconds by percentile; `histogram` holds them all, encoded, where the source has it.
    """

    requests: int
    seconds: float
    requests_per_second: float
    latency: dict[str, float | None]
    errors: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    reconnects: int = 0
    late_p99_ms: float | None = None
    histogram: str = ""

    @property
    def failed(self) -> int:
        """Requests that got a bad status or no whole reply, and connections that could not be opened."""
        return sum(self.errors.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "failed": self.failed}


class GeneratorError(Exception):
    """The load could not be made; the text says why."""


class Generator:
    """The processes of one plan. `start` connects, `go` sends, `wait` collects; leaving the block ends them."""

    def __init__(self, plan: Plan, cores: Sequence[int] = ()) -> None:
        self.plan = plan
        self.cores = cores
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def start(self) -> None:
        """Start the processes and wait until every connection is open."""
        for index, order in enumerate(self.plan.orders()):
            with pinned([self.cores[index % len(self.cores)]] if self.cores else ()):
                process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.load"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=REPOSITORY,
                    text=True,
                )
            self._processes.append(process)
            self._write(process, orjson.dumps(order).decode())
        for process in self._processes:
            self._read(process)

    def pids(self) -> list[int]:
        """Its processes."""
        return [process.pid for process in self._processes]

    def go(self) -> None:
        """Let all processes start at the same moment."""
        start = time.monotonic() + START_DELAY
        for process in self._processes:
            self._write(process, repr(start))

    def wait(self, watch: Watch | None = None) -> Outcome:
        """Collect the outcomes; `watch` gets the number of replies so far, all processes together."""
        seen = [0] * len(self._processes)
        outcomes: list[dict[str, Any]] = []
        for index, process in enumerate(self._processes):
            while "outcome" not in (message := self._read(process)):
                seen[index] = message["requests"]
                if watch:
                    watch(sum(seen) if index else seen[0] * len(self._processes))
            outcomes.append(message["outcome"])
        return combine(self.plan, outcomes)

    def _write(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def _read(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise GeneratorError(f"a generator process ended with status {process.wait()}")
        message: dict[str, Any] = orjson.loads(line)
        if "fault" in message:
            raise GeneratorError(message["fault"])
        return message


def combine(plan: Plan, outcomes: Sequence[dict[str, Any]]) -> Outcome:
    """One outcome of the processes' own. Requests a second are those answered within the plan's duration."""
    latencies = histogram.merge(outcome["latencies"] for outcome in outcomes)
    late = histogram.merge(outcome["late"] for outcome in outcomes)
    errors: Counter[str] = Counter()
    for outcome in outcomes:
        errors.update(outcome["errors"])
    return Outcome(
        requests=sum(outcome["requests"] for outcome in outcomes),
        seconds=plan.duration,
        requests_per_second=sum(outcome["in_window"] for outcome in outcomes) / plan.duration,
        latency=histogram.percentiles(latencies),
        errors=dict(errors),
        bytes=sum(outcome["bytes"] for outcome in outcomes),
        reconnects=sum(outcome["reconnects"] for outcome in outcomes),
        late_p99_ms=histogram.percentiles(late)["p99_ms"] if plan.rate else None,
        histogram=histogram.encode(latencies),
    )


def run(plan: Plan, cores: Sequence[int] = (), watch: Watch | None = None) -> Outcome:
    """Carry the plan out."""
    with Generator(plan, cores) as generator:
        generator.start()
        generator.go()
        return generator.wait(watch)


def table(plan: Plan, outcome: Outcome) -> Table:
    """The outcome for people."""
    shown = Table(title=f"{plan.method} {plan.url}", title_justify="left", show_header=False)
    asked = f"{plan.rate:,.0f}/s {'Poisson' if plan.poisson else 'constant'}" if plan.rate else "as fast as it goes"
    shown.add_row("asked", f"{asked}, {plan.connections} connections, {plan.processes} processes, {plan.duration:g} s")
    shown.add_row("answered", f"{outcome.requests:,} ({outcome.requests_per_second:,.0f}/s)")
    shown.add_row("failed", _failures(outcome))
    for name, value in outcome.latency.items():
        shown.add_row(name.removesuffix("_ms"), "-" if value is None else f"{value:.3f} ms")
    if outcome.late_p99_ms is not None:
        shown.add_row("generator late", f"{outcome.late_p99_ms:.3f} ms (p99; counted in the latencies above)")
    shown.add_row("received", f"{outcome.bytes / 2**20:,.1f} MiB; {outcome.reconnects:,} reconnects")
    return shown


def _failures(outcome: Outcome) -> str:
    kinds = ", ".join(f"{reason}: {number:,}" for reason, number in sorted(outcome.errors.items()))
    return f"{outcome.failed:,}" + (f" ({kinds})" if kinds else "")


def _watched(plan: Plan) -> Outcome:
    columns = (TextColumn("{task.fields[rate]:>12}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=plan.duration, rate="connecting")
        began = time.monotonic()

        def watch(requests: int) -> None:
            passed = time.monotonic() - began
            progress.update(task, completed=passed, rate=f"{requests / max(passed, 0.001):,.0f}/s")

        return run(plan, watch=watch)


@click.command(context_settings={"show_default": True})
@click.argument("url")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests a second, all processes together.")
@click.option("--poisson", is_flag=True, help="Exponential gaps instead of equal ones.")
@click.option("-c", "--connections", type=click.IntRange(min=1), default=64)
@click.option("-d", "--duration", type=click.FloatRange(min=0, min_open=True), default=10.0, help="Seconds.")
@click.option("-p", "--processes", type=click.IntRange(min=1), default=1)
@click.option("-X", "--method", default="GET")
@click.option("-H", "--header", "headers", multiple=True, help="'Name: value'; any number of times.")
@click.option("--body-size", type=click.IntRange(min=0), default=0, help="Bytes of body with each request.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=10.0, help="Seconds for one request.")
@click.option("-k", "--insecure", is_flag=True, help="Accept any certificate.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def main(url: str, as_json: bool, method: str, **options: Any) -> None:
    """Send requests to URL and report latencies."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter("must be an absolute http or https URL", param_hint="URL")
    plan = Plan(url=url, method=method.upper(), **options)
    if plan.processes > plan.connections:
        raise click.BadParameter("more processes than connections", param_hint="--processes")
    prepare()
    try:
        outcome = _watched(plan)
    except GeneratorError as error:
        complain(str(error))
        sys.exit(1)
    if as_json:
        click.echo(orjson.dumps(outcome.as_dict(), option=orjson.OPT_INDENT_2))
    else:
        Console().print(table(plan, outcome))
    sys.exit(1 if outcome.failed else 0)


if __name__ == "__main__":
    main()
