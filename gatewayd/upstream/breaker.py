"""Circuit breaker over a whole upstream: when most exchanges fail, send it none for a while, then try a few.

closed → open: at least `min_requests` over `window`, and `failure_share` of them failed.
open → half-open: after `open_for`; then `probes` exchanges are let through, and as many again whenever
`open_for` went by after the last of them without a verdict.
half-open → closed: `probes` exchanges that began in this state succeeded. → open: one failed.
"""

from __future__ import annotations

import logging
from math import ceil, inf
from typing import Literal

from gatewayd.config import model
from gatewayd.upstream.window import Window

State = Literal["closed", "open", "half_open"]
_log = logging.getLogger(__name__)
_SLACK = 1e-3
"""Seconds by which a trial's beginning, worked out from its duration, may seem too early."""


class Breaker:
    """The breaker of the upstream `name`. It keeps no clock: callers bring `now`, monotonic seconds."""

    __slots__ = (
        "_failure_share",
        "_failures",
        "_granted",
        "_min_requests",
        "_open_for",
        "_passed",
        "_probes",
        "_requests",
        "_since",
        "_until",
        "closed",
        "name",
        "opened",
        "state",
    )

    def __init__(self, name: str, config: model.Breaker) -> None:
        """A closed breaker; one that is not `enabled` stays closed."""
        self.name = name
        self.state: State = "closed"
        self.closed = True
        self.opened = 0  # times it went from closed to open
        self._failure_share = config.failure_share
        self._min_requests = config.min_requests if config.enabled else inf
        self._open_for = float(config.open_for)
        self._probes = config.probes
        self._requests = Window(float(config.window))
        self._failures = Window(float(config.window))
        self._until = 0.0  # end of being open, or of waiting for this round's trials
        self._since = 0.0  # beginning of being half-open
        self._granted = 0  # trials let through in this round
        self._passed = 0  # trials that succeeded

    def allow(self, now: float) -> bool:
        """Whether an exchange may be sent. Every attempt asks; True while half-open uses up a trial."""
        if self.closed:
            return True
        return self._allow_trial(now)

    def wait(self, now: float) -> int:
        """Whole seconds, 1 at least, after which it is worth to ask again."""
        return 1 if self.closed else max(1, ceil(self._until - now))

    def record(self, failed: bool, seconds: float, now: float) -> None:
        """An exchange ended; its last attempt began `seconds` ago."""
        self._requests.add(now)
        if self.closed:
            if failed:
                self._failed(now)
        elif self.state == "half_open" and now - seconds >= self._since - _SLACK:
            self._tried(failed, now)

    def carry_over(self, old: Breaker) -> None:
        """Go on in the state of `old`, which has the same configuration."""
        for name in ("state", "closed", "opened", "_until", "_since", "_granted", "_passed"):
            setattr(self, name, getattr(old, name))
        self._requests.carry_over(old._requests)
        self._failures.carry_over(old._failures)

    def status(self, now: float) -> dict[str, object]:
        """For `/status`: the state, how often it opened, and the counts over the window."""
        counts = {"requests": self._requests.total(now), "failures": self._failures.total(now)}
        return {"state": self.state, "opened": self.opened, **counts}

    def _allow_trial(self, now: float) -> bool:
        if now >= self._until:
            if self.state == "open":
                self.state, self._since, self._passed = "half_open", now, 0
                _log.info("upstream %s: breaker half-open, trying %d exchanges", self.name, self._probes)
            self._granted = 0
        elif self.state == "open" or self._granted == self._probes:
            return False
        self._granted += 1
        self._until = now + self._open_for
        return True

    def _failed(self, now: float) -> None:
        self._failures.add(now)
        requests, failures = self._requests.total(now), self._failures.total(now)
        if requests >= self._min_requests and failures >= self._failure_share * requests:
            self.opened += 1
            _log.warning("upstream %s: breaker open, %d of %d exchanges failed", self.name, failures, requests)
            self._open(now)

    def _tried(self, failed: bool, now: float) -> None:
        if failed:
            _log.warning("upstream %s: breaker open again, a trial failed", self.name)
            self._open(now)
            return
        self._passed += 1
        if self._passed >= self._probes:
            self.state, self.closed = "closed", True
            _log.info("upstream %s: breaker closed", self.name)

    def _open(self, now: float) -> None:
        self.state, self.closed, self._until = "open", False, now + self._open_for
        self._requests.clear()
        self._failures.clear()
