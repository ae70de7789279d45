"""An upstream at work: its targets, who of them may serve, and what each exchange taught.

One attempt is `breaker.allow` → `pick` → `started` → `finished` (or `abandoned`, if the caller left first).
Nothing of it waits or makes a task; changes that time brings (an ejection ends, a slow start goes on) happen
on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

from gatewayd.config import address, model
from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Exchange
from gatewayd.core.tasks import spawn
from gatewayd.upstream.balancer import make_picker, observe
from gatewayd.upstream.breaker import Breaker
from gatewayd.upstream.health import Ejector, Probe, Prober, ramped_share
from gatewayd.upstream.resolver import Resolve, Resolver, Sleep, resolve_name
from gatewayd.upstream.retry import RetryBudget
from gatewayd.upstream.target import Target

FIRST_ANSWER_WAIT = 1.0
"""Seconds that `start` waits for names to be resolved for the first time; slower ones join when they are."""
RAMP_STEPS = 20
"""Steps of a slow start."""
FAILED_LATENCY = 0.1
"""Seconds that a failed attempt counts for at least: refusing at once must not look like being fast."""
LONGEST_LATENCY = 60.0
"""Seconds that a failed attempt counts for at most."""


def _do_nothing(_target: Target) -> None:
    pass


class _Entry:
    """One configured address and the targets it stands for: as many as its name has IP addresses."""

    __slots__ = ("address", "known", "parsed", "resolver", "targets", "weight")

    def __init__(self, text: str) -> None:
        self.address = text
        self.parsed = address.parse(text)
        self.weight = 0
        self.targets: list[Target] = []
        self.known = False  # its targets were known once; later ones are new instances
        self.resolver: Resolver | None = None

    @property
    def is_name(self) -> bool:
        """Whether there is something to resolve."""
        try:
            return not (self.parsed.path or ipaddress.ip_address(self.parsed.host))
        except ValueError:
            return True


class UpstreamGroup:
    """The upstream `name` in one worker and one generation. All methods run in the worker's loop."""

    __slots__ = (
        "_clock",
        "_due",
        "_ejector",
        "_entries",
        "_on_join",
        "_on_retire",
        "_picker",
        "_probe",
        "_random",
        "_running",
        "_sleep",
        "_slow_start",
        "_superseded",
        "_tasks",
        "available",
        "breaker",
        "budget",
        "config",
        "lone",
        "name",
        "targets",
    )

    def __init__(
        self,
        name: str,
        config: model.Upstream,
        clock: Clock,
        random: Random,
        probe: Probe | None = None,
        *,
        resolve: Resolve = resolve_name,
        on_join: Callable[[Target], None] = _do_nothing,
        on_retire: Callable[[Target], None] = _do_nothing,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Targets given by IP address or unix socket are there at once, names after `start`.

        `on_join` is handed each target before its first exchange, to give it a pool, and again when it is
        carried over, with its pool. `on_retire` is handed those that get no exchange any more: close what is
        idle, let what is in flight end. Raises `ValueError` for what `config.check` and the model refuse.
        """
        self.name = name
        self.config = config
        self.targets: tuple[Target, ...] = ()  # all, in the order of the configuration, then of addresses
        self.available: tuple[Target, ...] = ()  # those that may be picked; a new tuple whenever they change
        self.breaker = Breaker(name, config.breaker)
        self.budget = RetryBudget(clock)
        self._clock = clock
        self._random = random
        self._probe = probe
        self._on_join = on_join
        self._on_retire = on_retire
        self._sleep = sleep
        self._slow_start = float(config.slow_start)
        self._ejector = Ejector(name, config.passive_health)
        self.lone: Target | None = None  # the only one available, while no change is due: no pick is needed then
        self._due = inf  # when an ejection ends or a slow start goes on
        self._running = False
        self._superseded = False  # a newer generation decides about our targets
        self._tasks: dict[_Entry | Target, asyncio.Task[Any]] = {}  # resolvers and probers
        self._picker = make_picker(config, clock, random)
        self._entries = self._make_entries(resolve)
        for entry in self._entries:
            if entry.resolver is None:
                self._answer(entry, ("" if entry.parsed.path else entry.parsed.host,))

    def pick(self, exchange: Exchange, tried: tuple[Target, ...] = ()) -> Target | None:
        """The target for an attempt, one not `tried` if there is such; None if none is available."""
        lone = self.lone
        if lone is not None:
            return lone
        if self._due != inf:
            self._tick(self._clock.monotonic())
        candidates: tuple[Target, ...] | list[Target] = self.available
        if tried:
            candidates = [target for target in candidates if target not in tried] or self._last_resort(tried)
        if len(candidates) > 1:
            return self._picker(candidates, exchange)
        return candidates[0] if candidates else None

    def _last_resort(self, tried: tuple[Target, ...]) -> tuple[Target, ...] | list[Target]:
        """For a retry when all that serve were tried: one that rests may be well again, and nothing is lost."""
        resting = [target for target in self.targets if target.ejected_until and not target.unhealthy]
        return [target for target in resting if target not in tried and not target.retired] or self.available

    def started(self, target: Target) -> None:
        """An attempt at `target` begins; exactly one `finished` or `abandoned` follows."""
        target.in_flight += 1
        target.requests += 1

    def finished(self, target: Target, seconds: float, failed: bool, now: float, retried: bool = False) -> None:
        """The attempt ended. `seconds`: until the reply's head, or until it failed.

        `failed`: by the target's fault: an `UpstreamError`, or a status among `passive_health.statuses`.
        `retried`: another attempt follows, and the breaker waits for how that ends.
        """
        target.in_flight -= 1
        self.budget.attempts.add(now)
        # One broken target among sound ones is a matter of ejection: what still comes in from it is no news.
        if not (retried or (failed and target.ejected_until)):
            self.breaker.record(failed, seconds, now)
        if now >= self._due:
            self._tick(now)
        if failed:
            target.failures += 1
            target.owner._failed(target, seconds, now)
            return
        target.failures_in_row = 0
        if target.ejected_until and self._ejector.proved(target, now - seconds, now):
            self._refresh()
        observe(target, seconds, now)

    def abandoned(self, target: Target, seconds: float, now: float) -> None:
        """The caller left before there was a verdict; all that is known: it takes at least `seconds`."""
        target.in_flight -= 1
        if seconds > target.latency:
            observe(target, seconds, now)

    async def start(self) -> None:
        """Resolve names and probe from now on. Waits a moment for the first addresses."""
        self._running = True
        for target in self.targets:
            self._watch(target)
        waited_for = []
        for entry in self._entries:
            if entry.resolver is not None:
                self._tasks[entry] = spawn(entry.resolver.run(), f"resolve {entry.address}")
                waited_for += [] if entry.targets else [entry.resolver]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ANSWER_WAIT):
                for resolver in waited_for:
                    await resolver.asked.wait()

    async def stop(self) -> None:
        """End resolving and probing and retire the targets that no newer generation took over."""
        self._cancel_tasks()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        for target in self.targets:
            if target.owner is self and not target.retired:
                self._retire(target)
        self._due = 0.0
        self._tick(self._clock.monotonic())

    def carry_over(self, old: UpstreamGroup) -> None:
        """Supersede `old`, this upstream's group of the generation before: keep what is known of its targets.

        Targets at the same place stay the same objects, with their connections, unless options of TLS
        changed: then only health and latency are kept. Call it when nothing can fail any more, before or
        after `start`; `old` goes on serving what it began, and is to be stopped when that has ended.
        """
        old._supersede()
        same_tls = old.config.tls == self.config.tls
        past = {entry.address: entry for entry in old._entries}
        for entry in self._entries:
            entry.known = True
            before = past.get(entry.address)
            if before is not None:
                self._adopt(entry, before, same_tls)
            else:
                for target in entry.targets:
                    target.available = False  # so that it comes in by a slow start
        if old.config.breaker == self.config.breaker:
            self.breaker.carry_over(old.breaker)
        self.budget.carry_over(old.budget)
        self._arrange()

    def status(self) -> dict[str, object]:
        """For `/status` and metrics: targets, breaker, retry budget, names."""
        now = self._clock.monotonic()
        self._tick(now)
        return {
            "balance": self.config.balance,
            "targets": [target.status(now, self._probes) for target in self.targets],
            "breaker": self.breaker.status(now),
            "budget": self.budget.status(),
            "names": {
                entry.address: {"addresses": list(entry.resolver.ips), "failures": entry.resolver.failures}
                for entry in self._entries
                if entry.resolver is not None
            },
        }

    def __repr__(self) -> str:
        return f"<UpstreamGroup {self.name} {len(self.available)} of {len(self.targets)} available>"

    def _make_entries(self, resolve: Resolve) -> list[_Entry]:
        entries: dict[str, _Entry] = {}
        for configured in self.config.targets:
            entry = entries.setdefault(configured.address, _Entry(configured.address))
            entry.weight += configured.weight
            if entry.is_name and entry.resolver is None:
                entry.resolver = self._make_resolver(entry, resolve)
        return list(entries.values())

    def _make_resolver(self, entry: _Entry, resolve: Resolve) -> Resolver:
        interval = float(self.config.resolve_interval)
        return Resolver(
            entry.parsed.host,
            entry.parsed.port,
            interval,
            lambda ips: self._answer(entry, ips),
            resolve=resolve,
            random=self._random,
            sleep=self._sleep,
        )

    def _answer(self, entry: _Entry, ips: tuple[str, ...]) -> None:
        gone = {target.ip: target for target in entry.targets}
        entry.targets = [gone.pop(ip) if ip in gone else self._make(entry, ip) for ip in ips]
        entry.known = True
        for target in gone.values():
            self._retire(target)
        self._arrange()

    def _make(self, entry: _Entry, ip: str) -> Target:
        target = Target(entry.address, entry.parsed, ip, entry.weight)
        target.owner = self
        target.available = not entry.known  # what turns up later comes in by a slow start
        self._on_join(target)
        self._watch(target)
        return target

    def _adopt(self, entry: _Entry, before: _Entry, same_tls: bool) -> None:
        old = {target.ip: target for target in before.targets}
        if not entry.targets:
            entry.targets = [self._make(entry, ip) for ip in old]
            if entry.resolver is not None and before.resolver is not None:
                entry.resolver.ips = before.resolver.ips
        for place, target in enumerate(entry.targets):
            known = old.get(target.ip)
            if known is None or known.retired:
                target.available = False
            elif same_tls:
                self._retire(target)
                entry.targets[place] = known
                known.owner = self
                known.weight = target.weight
                self._on_join(known)
                self._watch(known)
            else:
                target.inherit(known)

    def _arrange(self) -> None:
        self.targets = tuple(target for entry in self._entries for target in entry.targets)
        if not self._probes:
            for target in self.targets:
                target.unhealthy = False  # as a former generation's probes left it
        self._refresh()

    def _retire(self, target: Target) -> None:
        target.retired = True
        target.available = False
        task = self._tasks.pop(target, None)
        if task is not None:
            task.cancel()
        self._on_retire(target)

    @property
    def _probes(self) -> bool:
        return self._probe is not None and bool(self.config.active_health.path)

    def _watch(self, target: Target) -> None:
        if not self._running or not self._probes or self._probe is None:
            return
        active = self.config.active_health
        prober = Prober(self.name, target, active, self._probe, self._refresh, self._random, self._sleep)
        self._tasks[target] = spawn(prober.run(), f"probe {self.name} {target.place}")

    def _cancel_tasks(self) -> None:
        self._running = False
        for task in self._tasks.values():
            task.cancel()

    def _supersede(self) -> None:
        self._cancel_tasks()
        self._superseded = True
        self.lone = None
        self._due = 0.0  # from now on each pick looks at what the newer generation made of the targets

    def _failed(self, target: Target, seconds: float, now: float) -> None:
        observe(target, min(max(seconds, 2 * target.latency, FAILED_LATENCY), LONGEST_LATENCY), now)
        if target.retired or self._superseded:
            return
        if self._ejector.failed(target, [other for other in self.targets if other.weight > 0], now):
            self._refresh()

    def _tick(self, now: float) -> None:
        if self._superseded:
            self.available = tuple(target for target in self.targets if target.available)
        elif now >= self._due:
            self._refresh()

    def _refresh(self) -> None:
        """Make flags, shares and `available` true again after anything changed."""
        now = self._clock.monotonic()
        self._ejector.release([target for target in self.targets if target.weight > 0], now)
        due = inf
        moved = False
        for target in self.targets:
            may = target.weight > 0 and not (target.unhealthy or target.ejected_until or target.retired)
            if may and not target.available and self._slow_start:
                target.ramp_from = now
            target.available = may
            share = ramped_share(target, self._slow_start, now)
            moved = moved or share != target.share
            target.share = share
            if target.ejected_until:
                due = min(due, target.ejected_until)
            if target.ramp_from:
                due = min(due, now + self._slow_start / RAMP_STEPS)
        available = tuple(target for target in self.targets if target.available)
        if moved or available != self.available:
            self.available = available
        self._due = due
        self.lone = available[0] if len(available) == 1 and due == inf else None
