"""Scenarios with many connections that do little: what they cost in memory, and what they do to the others."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson

from benchmarks.figures import (
    MIB,
    Comparison,
    Pair,
    Round,
    check,
    figures,
    middle,
    ratio,
    remarks,
    result,
    spread,
)
from benchmarks.harness import Harness, Target
from benchmarks.machine import REPOSITORY
from benchmarks.processes import Running, disk_bytes, memory
from benchmarks.proxies import Proxy, Setup
from benchmarks.rounds import Rounds, Traffic, generator_name

Step = Callable[[], None]
Result = dict[str, Any]

IDLE_CONNECTIONS = 8000
READERS = 100
READER_BYTES = 20_000_000
READER_RATE = 2500
SLOW_SENDERS = 1500
SLOW_READERS = 500
NEIGHBOUR_BYTES = 1_000_000
SETTLE = 2.0
NEIGHBOUR_PAIRS = 5
"""2,000 slow connections in all. Each slow reader holds an upstream connection too, each slow sender none."""
NEIGHBOUR_RATE = 2000.0
IDLE_SECONDS = 50
"""Rounds beside idle connections end before any proxy's keep-alive timeout, 75 s, is near."""
PAUSED_MIB = 8.0
"""An upstream counts as paused if it gets rid of less than this in the second half of the time."""


class CrowdError(Exception):
    """The process that holds connections ended; the text is what it wrote last."""


@dataclass(slots=True)
class Crowd:
    """A process of `benchmarks.callers` at one proxy."""

    running: Running

    @classmethod
    def start(cls, harness: Harness, proxy: Proxy, kind: str, path: str) -> Crowd:
        """Start the process; it has no connections yet. Pinned where the load runs."""
        argv = [sys.executable, "-m", "benchmarks.callers", "--port", str(proxy.port), "--kind", kind]
        argv += ["--path", path, "--rate", str(READER_RATE)]
        log = Path(f"{harness.new_folder(f'{kind}-callers')}.log")
        cores = harness.layout.load[:1]
        return cls(harness.processes.start("callers", argv, log=log, cores=cores, cwd=REPOSITORY, talk=True))

    def ask(self, order: str) -> dict[str, int]:
        """Give an order and return the counts that answer it."""
        stdin, stdout = self.running.popen.stdin, self.running.popen.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(order + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise CrowdError(f"callers ended:\n{self.running.tail()}")
        counts: dict[str, int] = orjson.loads(line)
        return counts


def worker_rss(proxy: Proxy) -> int:
    """RSS of the largest worker, bytes."""
    return memory(proxy.pids(), proxy.setup.workers).worker


def idle(harness: Harness, step: Step) -> Result:
    """RSS per idle connection that has served a request, then throughput with all of them held."""
    target = harness.target()
    subject, *peers = harness.everyone(Setup(target.port, harness.options.workers))
    traffic = Traffic()
    rounds = Rounds(harness, target, step)
    number = min(harness.options.rounds, IDLE_SECONDS // (2 * harness.options.seconds + 1))
    rounds.warm([subject, *peers], traffic)
    comparison = Comparison(subject.name)
    held: dict[str, dict[str, Any]] = {}
    for beside in [[peer] for peer in peers] or [[]]:
        crowds = {proxy.name: _hold_idle(harness, proxy) for proxy in (subject, *beside)}
        comparison.add(rounds.compare(subject, beside, traffic, number))
        for name, (crowd, figure) in crowds.items():
            figure["open_afterwards"] = crowd.ask("count")["open"]
            harness.processes.stop(crowd.running)
            held.setdefault(name, figure)  # the first time is the one that grows
    found = result(
        "idle",
        comparison,
        number,
        workers=harness.options.workers,
        seconds_per_round=harness.options.seconds,
        traffic=f"{traffic.describe()}, beside {IDLE_CONNECTIONS:,} idle connections",
        generator=generator_name(traffic),
        upstream=target.kind,
        layout=harness.layout.describe(),
        idle=held,
    )
    return _judge_idle(found)


def _judge_idle(found: Result) -> Result:
    """Add the bar, which counts only where all connections were held to the end."""
    for name, figure in found["idle"].items():
        if figure["open_afterwards"] < IDLE_CONNECTIONS:
            left = f"{figure['open_afterwards']:,} of {IDLE_CONNECTIONS:,}"
            found["remarks"].append(f"{name}: {left} idle connections were still open at the end")
    ours = found["idle"]["gatewayd"]
    whole = ours["open_afterwards"] == IDLE_CONNECTIONS
    found["checks"] = [check("KiB for each idle connection", ours["kib_per_connection"] if whole else None, 4.0)]
    return found


def _hold_idle(harness: Harness, proxy: Proxy) -> tuple[Crowd, dict[str, Any]]:
    """Open the idle connections at one proxy: who holds them, and what they cost."""
    harness.say(f"{IDLE_CONNECTIONS:,} idle connections at {proxy.name}")
    crowd = Crowd.start(harness, proxy, "idle", "/v1/policies/731")
    before = worker_rss(proxy)
    counts = crowd.ask(f"open {IDLE_CONNECTIONS}")
    grown = worker_rss(proxy) - before
    share = counts["open"] / proxy.setup.workers
    return crowd, {
        "open": counts["open"],
        "refused": counts["refused"],
        "rss_before_mib": round(before / MIB, 1),
        "rss_growth_mib": round(grown / MIB, 1),
        "kib_per_connection": round(grown / 1024 / share, 2) if share else None,
    }


def slow(harness: Harness, step: Step) -> Result:
    """Slow readers of large replies, then what slow connections do to the latency of the others."""
    target = harness.target(own=True)
    proxies = harness.everyone(Setup(target.port, harness.options.workers))
    rounds = Rounds(harness, target, step)
    rounds.warm(proxies, Traffic())
    readers = {proxy.name: _slow_readers(harness, proxy, target) for proxy in proxies}
    pairs = {proxy.name: _beside_slow(harness, rounds, proxy) for proxy in proxies}
    named = {name: _neighbours(those) for name, those in pairs.items()}
    ours, neighbours = readers["gatewayd"], named["gatewayd"]
    return {
        "scenario": "memory",
        "rounds": len(pairs["gatewayd"]),
        "gatewayd": {"slow_readers": ours, "slow_neighbours": neighbours},
        "peers": {
            name: {"slow_readers": readers[name], "slow_neighbours": named[name]}
            for name in readers
            if name != "gatewayd"
        },
        "workers": harness.options.workers,
        "upstream": target.kind,
        "layout": harness.layout.describe(),
        "remarks": remarks(Comparison("gatewayd", alone=[one for pair in pairs["gatewayd"] for one in pair])),
        "checks": [
            check(f"MiB a worker grows with {READERS} slow readers", ours["worker_growth_mib"], 30.0),
            check("MiB on disk for slow readers", ours["disk_mib"], 0.0),
            check(
                "MiB sent on by the upstream while readers are slow",
                ours["upstream_sent_later_mib"],
                PAUSED_MIB,
            ),
            check("p99 beside 2,000 slow connections ÷ without", neighbours["p99_ratio"], 1.2),
        ],
    }


def _slow_readers(harness: Harness, proxy: Proxy, target: Target) -> dict[str, Any]:
    """Memory, disk and upstream while so many readers take large replies slowly."""
    harness.say(f"{READERS} slow readers at {proxy.name}")
    crowd = Crowd.start(harness, proxy, "read", f"/huge/{READER_BYTES}")
    before, disk_before, sent_before = worker_rss(proxy), disk_bytes(proxy.pids()), _sent(target)
    opened = crowd.ask(f"open {READERS}")
    most, disk, sent = 0, 0, [_sent(target)]
    for _ in range(4 if harness.options.quick else 16):
        time.sleep(0.5)
        most = max(most, worker_rss(proxy))
        disk = max(disk, disk_bytes(proxy.pids()))
        sent.append(_sent(target))
    counts = crowd.ask("count")
    crowd.ask("close")
    harness.processes.stop(crowd.running)
    return {
        "readers": opened["open"],
        "readers_left": counts["open"],
        "read_mib": round(counts["bytes"] / MIB, 2),
        "worker_growth_mib": round(max(0, most - before) / MIB, 1),
        "disk_mib": round(max(0, disk - disk_before) / MIB, 1),
        "upstream_sent_mib": round((sent[-1] - sent_before) / MIB, 1),
        "upstream_sent_later_mib": round((sent[-1] - sent[len(sent) // 2]) / MIB, 1),
    }


def _sent(target: Target) -> int:
    """Bytes of huge bodies the upstream got rid of."""
    with urlopen(f"http://127.0.0.1:{target.port}/sent", timeout=10) as reply:
        return int(reply.read())


def _beside_slow(harness: Harness, rounds: Rounds, proxy: Proxy) -> list[Pair]:
    """Pairs of rounds: (beside slow connections, without). What filling the readers' buffers costs is over by then."""
    traffic = Traffic(rate=NEIGHBOUR_RATE)
    senders = Crowd.start(harness, proxy, "drip", "/v1/policies/731")
    readers = Crowd.start(harness, proxy, "read", f"/huge/{NEIGHBOUR_BYTES}")
    pairs = []
    for number in range(1 if harness.options.quick else NEIGHBOUR_PAIRS):
        harness.say(f"slow connections beside normal load, {number + 1}: {proxy.name}")
        without = rounds.once(proxy, traffic)
        senders.ask(f"open {SLOW_SENDERS}")
        readers.ask(f"open {SLOW_READERS}")
        time.sleep(SETTLE)
        pairs.append((rounds.once(proxy, traffic), without))
        senders.ask("close")
        readers.ask("close")
        time.sleep(SETTLE / 4)
    for crowd in (senders, readers):
        harness.processes.stop(crowd.running)
    return pairs


def _neighbours(pairs: list[Pair]) -> dict[str, Any]:
    """The others' latency beside slow connections and without."""
    p99 = [ratio(_p99(beside), _p99(without)) for beside, without in pairs]
    return {
        "beside": figures([beside for beside, _ in pairs]),
        "without": figures([without for _, without in pairs]),
        "p99_ratio": middle(p99),
        "p99_ratio_spread": spread(p99),
    }


def _p99(one: Round) -> float | None:
    return one.outcome.latency.get("p99_ms")
