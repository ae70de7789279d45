"""How long from the start of the process to the first byte served."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from benchmarks import proxies
from benchmarks.figures import check, middle, spread
from benchmarks.harness import Harness
from benchmarks.machine import allowed_cores
from benchmarks.processes import StartError
from benchmarks.proxies import Proxy, Setup

STARTS = 5
PATIENCE = 20.0


def start(harness: Harness, step: Callable[[], None]) -> dict[str, Any]:
    """Start each proxy several times, by turns, and ask until it answers."""
    workers = max(2, harness.options.workers)
    setup = Setup(harness.target().port, workers)
    kinds = ["gatewayd", *harness.peers()]
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(2 if harness.options.quick else STARTS):
        for kind in kinds:
            harness.say(f"start {number + 1}: {kind}")
            try:
                times[kind].append(_one(harness, kind, setup))
            except StartError as error:
                if kind == "gatewayd":
                    raise
                harness.skipped[kind] = str(error)
    shown: dict[str, dict[str, Any]] = {
        kind: {"start_s": middle(those), "start_s_spread": spread(those)} for kind, those in times.items()
    }
    return {
        "scenario": "start",
        "rounds": len(times["gatewayd"]),
        "workers": workers,
        "gatewayd": shown["gatewayd"],
        "peers": {kind: figure for kind, figure in shown.items() if kind != "gatewayd"},
        "layout": "every proxy on all cores",
        "remarks": [],
        "checks": [check(f"seconds to the first byte with {workers} workers", shown["gatewayd"]["start_s"], 1.0)],
    }


def _one(harness: Harness, kind: str, setup: Setup) -> float:
    """Seconds from the start of the process to the first byte of a reply that came from the upstream."""
    began = time.monotonic()
    proxy = proxies.start(harness.processes, kind, setup, harness.new_folder(kind), allowed_cores(), wait=False)
    try:
        while not answers(proxy.port):
            if time.monotonic() - began > PATIENCE:
                raise StartError(f"{kind} did not answer within {PATIENCE:g} s:\n{proxy.programs[0].tail()}")
            time.sleep(0.002)
        return time.monotonic() - began
    finally:
        _stop(harness, proxy)


def _stop(harness: Harness, proxy: Proxy) -> None:
    for program in proxy.programs:
        harness.processes.stop(program)


def answers(port: int) -> bool:
    """Whether a request to the port of the loopback gets the first bytes of a 200 now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /v1/policies/731 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False
