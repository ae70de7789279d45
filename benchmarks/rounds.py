"""Short rounds, subject and peer by turns, with the kernel's account of who used how much CPU."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks import wrk
from benchmarks.figures import Comparison, Round
from benchmarks.generator import Ask, Generator, GeneratorError, Outcome, Plan
from benchmarks.harness import Harness, Target
from benchmarks.processes import busy_ns, cpu_ns, memory
from benchmarks.proxies import Proxy

REST, REST_SHARE, PATIENCE = 0.25, 0.05, 10.0
"""At rest: for so many seconds all proxies together use less than that share of a core. Waited for so long at most."""
HEADERS = (
    "User-Agent: benchmark/1.0",
    "Accept: application/json",
    "Authorization: Bearer 3f0d2c5e9b7a41d8",
)
"""Sent with every request beside Host: what a client of an API sends at least."""
REFUSED_ERROR = 0.01
"""By how much the share of refused requests may differ from the one that was meant to be refused."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a round sends. `rate`: open loop at so many requests a second; None: closed loop.

    `asks` are sent in turn instead of `path`, or if `sticky` one of them by each connection. `refused`: the share of
    requests that is to be answered by a refusal.
    """

    path: str = "/v1/policies/731"
    method: str = "GET"
    body_size: int = 0
    connections: int = 64
    rate: float | None = None
    headers: tuple[str, ...] = ()
    base: tuple[str, ...] = HEADERS
    asks: tuple[Ask, ...] = ()
    sticky: bool = False
    refused: float = 0.0

    def plan(self, proxy: Proxy, seconds: float, processes: int) -> Plan:
        """The plan of one round."""
        return Plan(
            url=proxy.url(self.path),
            connections=self.connections * proxy.setup.workers,
            duration=seconds,
            rate=self.rate * proxy.setup.workers if self.rate else None,
            processes=processes,
            method=self.method,
            headers=self.base + self.headers,
            asks=self.asks,
            sticky=self.sticky,
            body_size=self.body_size,
            timeout=10.0,
            insecure=True,
        )

    def describe(self) -> str:
        """One line for the report."""
        how = f"open loop, {self.rate:,.0f} requests/s" if self.rate else "closed loop"
        body = f" with a body of {self.body_size:,} bytes" if self.body_size else ""
        turns = "one for each connection" if self.sticky else "in turn"
        what = f"{len(self.asks):,} different requests, {turns}" if self.asks else f"{self.method} {self.path}"
        return f"{what}{body}, {self.connections} connections a worker, {how}"


def generator_name(traffic: Traffic) -> str:
    """Which generator carries this traffic."""
    return "wrk" if traffic.rate is None and wrk.installed() else "benchmarks.generator"


def as_meant(outcome: Outcome, refused: float) -> Outcome:
    """The outcome without the refusals that were meant, if there are as many as were meant."""
    errors = {reason: number for reason, number in outcome.errors.items() if reason not in ("status", "429")}
    found = outcome.failed - sum(errors.values())
    if not refused or not outcome.requests or abs(found / outcome.requests - refused) > REFUSED_ERROR:
        return outcome
    return replace(outcome, errors=errors)


@dataclass(slots=True)
class Account:
    """CPU before and after a round."""

    proxy: Proxy
    others: Sequence[int]
    pids: dict[int, int]
    aside: dict[int, int]
    used_by_others: int
    machine: int
    children: float
    clock: float

    @classmethod
    def open(cls, proxy: Proxy, others: Sequence[int]) -> Account:
        """Take note of where everyone stands. `others`: further processes of the benchmark."""
        return cls(
            proxy,
            others,
            {pid: cpu_ns(pid) for pid in proxy.pids()},
            {pid: cpu_ns(pid) for pid in proxy.aside()},
            sum(map(cpu_ns, others)),
            busy_ns(),
            _own_seconds(),
            time.monotonic(),
        )

    def close(self, outcome: Outcome) -> Round:
        """The round since then. Processes that came meanwhile count from nothing, those that went are named."""
        seconds = time.monotonic() - self.clock
        after = {pid: cpu_ns(pid) for pid in self.proxy.pids()}
        used = sum(total - self.pids.get(pid, 0) for pid, total in after.items())
        others = sum(map(cpu_ns, self.others)) - self.used_by_others + int((_own_seconds() - self.children) * 1e9)
        foreign = max(0, busy_ns() - self.machine - used - others)
        aside = sum(after[pid] - before for pid, before in self.aside.items() if pid in after)
        ended = len(self.pids.keys() - after.keys())
        return Round(outcome, used - aside, seconds, foreign, ended, aside)


def _own_seconds() -> float:
    """CPU seconds of the harness and of the generators it waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Rounds:
    """Carries the rounds of one scenario out; `step` is told after each."""

    def __init__(self, harness: Harness, target: Target, step: Callable[[], None] = lambda: None) -> None:
        self.harness = harness
        self.target = target
        self.step = step

    def once(self, proxy: Proxy, traffic: Traffic, seconds: float | None = None) -> Round:
        """One round of one proxy."""
        cores = self.harness.layout.load
        length = seconds or self.harness.options.seconds
        plan = traffic.plan(proxy, length, processes=len(cores))
        try:
            if generator_name(traffic) == "wrk":
                account = Account.open(proxy, self.target.pids())
                return account.close(as_meant(wrk.run(plan, cores), traffic.refused))
            return self._generated(proxy, plan, cores, traffic.refused)
        except GeneratorError as error:
            said = "\n".join(f"{program!r}\n{program.tail()}" for program in proxy.programs)
            raise GeneratorError(f"{error}\n{proxy.name} says:\n{said}") from error

    def _generated(self, proxy: Proxy, plan: Plan, cores: Sequence[int], refused: float) -> Round:
        with Generator(plan, cores) as load:
            load.start()
            account = Account.open(proxy, [*self.target.pids(), *load.pids()])
            load.go()
            return account.close(as_meant(load.wait(), refused))

    def warm(self, proxies: Iterable[Proxy], traffic: Traffic, others: Mapping[str, Traffic] | None = None) -> None:
        """A second of load for each, not counted: pools fill, allocators settle. Then wait until all are at rest:
        a process that still starts behind a proxy's workers is no part of what a request costs."""
        started = list(proxies)
        for proxy in started:
            self.harness.say(f"warming {proxy.name} up")
            self.once(proxy, (others or {}).get(proxy.name, traffic), 1)
        self.harness.say("waiting until all are at rest")
        deadline = time.monotonic() + PATIENCE
        while not self._at_rest(started) and time.monotonic() < deadline:
            pass

    def _at_rest(self, proxies: Sequence[Proxy]) -> bool:
        before = sum(cpu_ns(pid) for proxy in proxies for pid in proxy.pids())
        time.sleep(REST)
        after = sum(cpu_ns(pid) for proxy in proxies for pid in proxy.pids())
        return after - before < REST_SHARE * REST * 1e9

    def compare(
        self,
        subject: Proxy,
        peers: Sequence[Proxy],
        traffic: Traffic,
        rounds: int | None = None,
        others: Mapping[str, Traffic] | None = None,
    ) -> Comparison:
        """Pairs of rounds: each peer's round stands beside one of the subject's own, and who is first changes.

        `others`: the traffic of those peers, by name, that get another.
        """
        others = others or {}
        comparison = Comparison(subject.name, {peer.name: [] for peer in peers})
        for number in range(rounds or self.harness.options.rounds):
            if not peers:
                comparison.alone.append(self._said(subject, traffic, number))
            for index, peer in enumerate(peers):
                its = others.get(peer.name, traffic)
                if (number + index) % 2:
                    theirs = self._said(peer, its, number)
                    ours = self._said(subject, traffic, number)
                else:
                    ours = self._said(subject, traffic, number)
                    theirs = self._said(peer, its, number)
                comparison.pairs[peer.name].append((ours, theirs))
        for proxy in (subject, *peers):
            comparison.memory[proxy.name] = memory(proxy.pids(), proxy.setup.workers)
        return comparison

    def _said(self, proxy: Proxy, traffic: Traffic, number: int) -> Round:
        self.harness.say(f"round {number + 1}: {proxy.name}")
        found = self.once(proxy, traffic)
        self.step()
        return found
