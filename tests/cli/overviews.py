"""What a daemon says of itself, for `gatewayd top`, at seconds after its start."""

from __future__ import annotations

from typing import Any

from gatewayd.server.overview import Overview, RouteCounts, TargetCounts, VerdictCount

STARTED = 1_800_000_000.0
CLASSES = ["1xx", "2xx", "3xx", "4xx", "5xx", "499"]
BOUNDS = [0.001, 0.01, 0.1, 1.0]


def route(ok: int = 0, client: int = 0, server: int = 0, slow: int = 0, **fields: Any) -> RouteCounts:
    """All of them in the second bucket, but `slow` of them, which are in the fourth."""
    calls = ok + client + server
    told = {"upstream_seconds": calls * 0.004, "total_seconds": calls * 0.005, "bytes_in": 0, "bytes_out": calls * 100}
    return RouteCounts([0, ok, 0, client, server, 0], [0, calls - slow, 0, slow, 0], **{**told, **fields})


def target(name: str = "a:80", **fields: Any) -> TargetCounts:
    """One that all of two workers use."""
    told = {"available": 2, "workers": 2, "in_flight": 1, "requests": 100, "failures": 2, "latency_seconds": 0.0045}
    more = {"connections": 3, "waiting": 0, "breaker": "closed"}
    return TargetCounts("up", name, **{**told, **more, **fields})


def verdict(count: int, verdict: str = "refused", policy: str = "fair", mode: str = "enforce") -> VerdictCount:
    """Of a rate limit."""
    return VerdictCount(policy, "rate_limit", mode, verdict, count)


def overview(seconds: float = 100.0, **fields: Any) -> Overview:
    """At `seconds` after the start."""
    told = {
        "now": STARTED + seconds,
        "started": STARTED,
        "version": "1.2.3",
        "generation": 4,
        "ready": True,
        "state": "serving",
        "workers": 2,
        "serving": 2,
        "restarts": 0,
        "connections": 1234,
        "in_flight": 7,
        "log_lag": 0.0,
        "log_dropped": 0,
        "audit_lag": 0.0,
        "audit_dropped": 0,
        "audit_full": 0,
        "classes": CLASSES,
        "bounds": BOUNDS,
        "routes": {},
        "refusals": {},
        "failures": {},
        "verdicts": [],
        "targets": [],
    }
    return Overview(**{**told, **fields})
