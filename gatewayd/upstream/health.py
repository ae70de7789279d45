"""Which targets may be used: passive outlier ejection, active probes, slow start. None runs per request.

Passive and active verdicts are separate: a target serves if it is neither ejected nor unhealthy. Ejection
alone never leaves an upstream without targets; probes may.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from gatewayd.config import model
from gatewayd.errors import UpstreamError
from gatewayd.upstream.resolver import Sleep
from gatewayd.upstream.target import Target

Probe = Callable[[Target, model.ActiveHealth], Awaitable[int]]
"""Sends one probe; returns the status. Raises `UpstreamError`, `OSError`; is cancelled after `timeout`."""

LONGEST_EJECTION = 10
"""Ejections in a row double, up to so many times `eject`."""
RAMP_START = 0.1
"""Share of its weight that a target begins its slow start with."""
_log = logging.getLogger(__name__)


class Ejector:
    """Passive outlier ejection: who fails `failures` exchanges in a row rests.

    A target that comes back is on probation: its first failure sends it back to rest, for twice as long, up
    to tenfold. One that stayed for as long as it had rested starts over.
    """

    __slots__ = ("_config", "_upstream")

    def __init__(self, upstream: str, config: model.PassiveHealth) -> None:
        self._upstream = upstream
        self._config = config

    def limit(self, targets: int) -> int:
        """How many of so many may rest at once.

        `max_ejected` of them rounded down, yet of two or more at least one, and never all; none if
        `max_ejected` is 0 or passive checks are off.
        """
        share = self._config.max_ejected if self._config.enabled else 0.0
        if targets < 2 or share <= 0:
            return 0
        # The tiny addend keeps 0.1 × 30 from being 2.9999….
        return min(targets - 1, max(1, int(targets * share + 1e-9)))

    def failed(self, target: Target, targets: Sequence[Target], now: float) -> bool:
        """Count a failed exchange; True if `target` rests from now on. `targets`: all with a weight."""
        target.failures_in_row += 1
        if target.failures_in_row < self._config.failures:
            return False
        resting = sum(1 for other in targets if other.ejected_until)
        others_left = any(other.available for other in targets if other is not target)
        if target.ejected_until or resting >= self.limit(len(targets)) or not others_left:
            return False
        self._eject(target, now)
        return True

    def release(self, targets: Sequence[Target], now: float) -> None:
        """End the ejections that are over, those beyond the limit, and all if nothing else is left to serve.

        `targets`: all with a weight.
        """
        resting = sorted((target for target in targets if target.ejected_until), key=_end)
        over = len(resting) - self.limit(len(targets))
        serving = any(not (target.ejected_until or target.unhealthy) for target in targets)
        for target in resting:
            if target.ejected_until <= now or over > 0 or not serving:
                self._take_back(target, now)
            over -= 1

    def proved(self, target: Target, began: float, now: float) -> bool:
        """`target` rests, and an exchange that `began` succeeded; True if it was sent since, and so ends the rest."""
        if began < target.ejected_until - target.rested:
            return False
        self._take_back(target, now)
        return True

    def _eject(self, target: Target, now: float) -> None:
        if now - target.back_at > target.rested:
            target.ejections_in_row = 0
        base = float(self._config.eject)
        target.rested = min(base * 2.0 ** min(target.ejections_in_row, 10), base * LONGEST_EJECTION)
        target.ejections_in_row += 1
        target.ejections += 1
        target.ejected_until = now + target.rested
        _log.warning(
            "upstream %s: target %s ejected for %g s after %d failures in a row",
            self._upstream,
            target.place,
            target.rested,
            target.failures_in_row,
        )

    def _take_back(self, target: Target, now: float) -> None:
        target.ejected_until = 0.0
        target.back_at = now
        target.failures_in_row = max(self._config.failures - 1, 0)
        # Unknown again: the balancer gives it one exchange at once instead of shunning it for what it was.
        target.latency = 0.0
        _log.info("upstream %s: target %s back after its ejection", self._upstream, target.place)


def _end(target: Target) -> float:
    return target.ejected_until


class Prober:
    """Active checks of one target: a probe each `interval`, give or take a tenth, the first sooner.

    A target counts as healthy until probes say otherwise.
    """

    __slots__ = ("_changed", "_config", "_probe", "_random", "_sleep", "_target", "_upstream")

    def __init__(
        self,
        upstream: str,
        target: Target,
        config: model.ActiveHealth,
        probe: Probe,
        changed: Callable[[], None],
        random: Random,
        sleep: Sleep,
    ) -> None:
        """`changed` is called after `target.unhealthy` turned over."""
        self._upstream = upstream
        self._target = target
        self._config = config
        self._probe = probe
        self._changed = changed
        self._random = random
        self._sleep = sleep

    async def run(self) -> None:
        """Probe until cancelled."""
        interval = float(self._config.interval)
        await self._sleep(interval * self._random.random())
        while True:
            self._count(await self._complaint())
            await self._sleep(interval * self._random.uniform(0.9, 1.1))

    async def _complaint(self) -> str:
        try:
            async with asyncio.timeout(float(self._config.timeout)):
                status = await self._probe(self._target, self._config)
        except TimeoutError:
            return "timeout"
        except (UpstreamError, OSError) as error:
            return str(error) or type(error).__name__
        except Exception as error:  # a probe that breaks in whatever way has not found the target healthy
            _log.exception("upstream %s: probe of %s broke", self._upstream, self._target.place)
            return type(error).__name__
        return "" if status in self._config.statuses else f"status {status}"

    def _count(self, complaint: str) -> None:
        target = self._target
        if bool(complaint) == target.unhealthy:
            target.probe_streak = 0
            return
        target.probe_streak += 1
        if target.probe_streak < (self._config.unhealthy_after if complaint else self._config.healthy_after):
            return
        target.probe_streak = 0
        target.unhealthy = bool(complaint)
        if complaint:
            _log.warning("upstream %s: target %s unhealthy: %s", self._upstream, target.place, complaint)
        else:
            _log.info("upstream %s: target %s healthy again", self._upstream, target.place)
        self._changed()


def ramped_share(target: Target, slow_start: float, now: float) -> float:
    """The target's share at `now`: its weight, or part of it until `slow_start` seconds after `ramp_from`."""
    if not target.ramp_from:
        return float(target.weight)
    part = (now - target.ramp_from) / slow_start if slow_start > 0 else 1.0
    if part >= 1:
        target.ramp_from = 0.0
        return float(target.weight)
    return target.weight * (RAMP_START + (1 - RAMP_START) * max(part, 0.0))
