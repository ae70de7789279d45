"""wrk as the closed-loop generator, where it is installed: it takes a third of the CPU of ours."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from benchmarks.generator import GeneratorError, Outcome, Plan
from benchmarks.processes import pinned

SCRIPT, TURNS = (Path(__file__).with_name(name) for name in ("wrk_report.lua", "wrk_turns.lua"))
MARK = "outcome "


def installed() -> bool:
    """Whether there is a wrk to use."""
    return shutil.which("wrk") is not None


def command(plan: Plan, threads: int, asks: str = "") -> list[str]:
    """The command line of a closed-loop plan of whole seconds. `asks`: the file of `plan.asks`, if there are some.

    A script cannot tell connections apart, so where each asks its own thing it has a thread of its own.
    """
    threads = plan.connections if plan.sticky else min(threads, plan.connections)
    argv = [
        "wrk",
        f"-t{threads}",
        f"-c{plan.connections}",
        f"-d{round(plan.duration)}s",
    ]
    argv += ["--timeout", f"{max(1, round(plan.timeout))}s", "--script", str(TURNS if asks else SCRIPT)]
    for header in plan.headers:
        argv += ["-H", header]
    return [
        *argv,
        plan.url,
        "--",
        plan.method,
        str(plan.body_size),
        *([asks, str(threads), "01"[not plan.sticky]] if asks else []),
    ]


@contextmanager
def asks_of(plan: Plan) -> Iterator[str]:
    """The name of a file of `plan.asks`, a line for each; "" if there are none."""
    if not plan.asks:
        yield ""
        return
    with tempfile.NamedTemporaryFile("w", prefix="gatewayd-bench-", suffix=".asks") as file:
        file.writelines(f"{target}\t{line}\n" for target, line in plan.asks)
        file.flush()
        yield file.name


def run(plan: Plan, cores: Sequence[int] = ()) -> Outcome:
    """Carry a closed-loop plan out, one thread a core. `GeneratorError` if wrk could not."""
    with (
        pinned(cores),
        asks_of(plan) as asks,
        subprocess.Popen(
            command(plan, max(1, len(cores)), asks), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        try:
            text, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    return parse(text)


def parse(text: str) -> Outcome:
    """The outcome in wrk's output. Its latencies are of whole replies, with wrk's own correction for stalls."""
    for line in text.splitlines():
        if line.startswith(MARK):
            found = orjson.loads(line[len(MARK) :])
            seconds = found["microseconds"] / 1e6
            return Outcome(
                requests=found["requests"],
                seconds=seconds,
                requests_per_second=found["requests"] / seconds if seconds else 0.0,
                latency={name: value / 1000 for name, value in found["latency_us"].items()},
                errors={reason: number for reason, number in found["errors"].items() if number},
                bytes=found["bytes"],
            )
    raise GeneratorError(f"wrk failed:\n{text}")
