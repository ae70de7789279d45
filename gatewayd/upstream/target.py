"""A target: one place (IP address and port, or unix socket) that serves an upstream, and what is known of it.

A configured name that resolves to several addresses stands for several targets, one for each.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import Any

from gatewayd.config.address import Address

COMPLAIN_EVERY = 60.0
"""Seconds between two messages about one target's failures."""
_log = logging.getLogger(__name__)


class Target:
    """One place that serves an upstream. Times are monotonic seconds, 0.0 where nothing happened yet."""

    __slots__ = (
        "address",
        "available",
        "back_at",
        "complained",
        "ejected_until",
        "ejections",
        "ejections_in_row",
        "failures",
        "failures_in_row",
        "host",
        "in_flight",
        "ip",
        "latency",
        "latency_at",
        "owner",
        "path",
        "place",
        "pool",
        "port",
        "probe_streak",
        "ramp_from",
        "requests",
        "rested",
        "retired",
        "seed",
        "share",
        "turn",
        "unhealthy",
        "weight",
    )

    def __init__(self, address: str, parsed: Address, ip: str = "", weight: int = 1) -> None:
        """`ip` is the address to dial, "" for a unix socket."""
        self.address = address  # as configured
        self.host = parsed.host  # for Host and SNI; "" for a unix socket
        self.ip = ip
        self.port = parsed.port
        self.path = parsed.path
        self.place = parsed.path or (f"[{ip}]:{self.port}" if ":" in ip else f"{ip}:{self.port}")
        self.seed = blake2b(self.place.encode(), digest_size=16).digest()  # of its consistent hash
        self.weight = weight  # as configured; 0: drained
        self.share = float(weight)  # what balancers go by: less than `weight` during a slow start
        self.turn = 0.0  # of smooth weighted round robin
        self.available = False  # the one flag the data path reads
        self.retired = False  # gone from the configuration or from DNS
        self.in_flight = 0
        self.latency = 0.0  # seconds until a reply's head, peak-sensitive moving average; 0.0: unknown
        self.latency_at = 0.0
        self.unhealthy = False  # by active checks
        self.probe_streak = 0  # probe results in a row that speak against `unhealthy`'s value
        self.failures_in_row = 0
        self.ejected_until = 0.0  # 0.0: not ejected
        self.ejections_in_row = 0
        self.rested = 0.0  # seconds its last ejection lasts
        self.back_at = 0.0  # when its last ejection ended
        self.ramp_from = 0.0  # when its slow start began; 0.0: none goes on
        self.complained = -COMPLAIN_EVERY  # when the log last said why an attempt failed
        self.requests = 0  # attempts begun
        self.failures = 0
        self.ejections = 0
        self.pool: Any = None  # its connections; hung here by the group's `on_join`
        self.owner: Any = None  # the group that decides about its health: the newest generation's

    def inherit(self, old: Target) -> None:
        """Take over what is known about the same place's latency and health, but no connections."""
        for name in _KNOWLEDGE:
            setattr(self, name, getattr(old, name))

    def status(self, now: float, probed: bool) -> dict[str, object]:
        """For `/status` and metrics. `probed`: whether active checks are on."""
        probe = "off" if not probed else "unhealthy" if self.unhealthy else "healthy"
        return {
            "address": self.address,
            "place": self.place,
            "weight": self.weight,
            "share": round(self.share, 3),
            "available": self.available,
            "in_flight": self.in_flight,
            "latency_ms": round(self.latency * 1000, 3),
            "requests": self.requests,
            "failures": self.failures,
            "ejections": self.ejections,
            "ejected_for": round(max(self.ejected_until - now, 0.0), 3),
            "probe": probe,
            "pool": None if self.pool is None else self.pool.status(),
        }

    def complain(self, why: str, now: float) -> None:
        """Say in the daemon's log why an attempt failed: the first time, then once a minute at most."""
        if now - self.complained >= COMPLAIN_EVERY:
            self.complained = now
            _log.warning("target %s at %s: %s", self.address, self.place, why)

    def __repr__(self) -> str:
        state = "available" if self.available else "unavailable"
        return f"<Target {self.address} at {self.place} {state} in_flight={self.in_flight}>"


_KNOWLEDGE = (
    "available",
    "back_at",
    "ejected_until",
    "ejections",
    "ejections_in_row",
    "failures",
    "failures_in_row",
    "latency",
    "latency_at",
    "probe_streak",
    "ramp_from",
    "requests",
    "rested",
    "unhealthy",
)
