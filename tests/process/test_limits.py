"""Limits of a real daemon: workers at full load count as one, to the request, and go on counting when one is killed."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from tests.support.daemon import FULL, Daemon, pace
from tests.support.upstream import Peer, ScriptedUpstream

pytestmark = pytest.mark.process

CALLERS = 16
LIMIT = 500
SECONDS = 6


def document(workers: int, **options: Any) -> dict[str, Any]:
    """A route that answers by itself, under one limit."""
    return {
        "gateway": {"workers": workers},
        "routes": {"all": {"path": "/*", "reply": {"body": "here"}, "policies": ["limit"]}},
        "policies": {"limit": {"policy": "rate_limit", **options}},
    }


class Caller:
    """A connection that is made again when it breaks: a killed worker takes its own along."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.statuses: list[int] = []  # 0: there was no reply

    def ask(self) -> int:
        try:
            self.connection.request("GET", "/")
            reply = self.connection.getresponse()
            reply.read()
            self.statuses.append(reply.status)
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.statuses.append(0)
        return self.statuses[-1]


def calling(port: int, work: Callable[[Caller], None]) -> list[int]:
    """The statuses that all callers got, each of which does `work` in a thread of its own."""
    callers = [Caller(port) for _ in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as threads:
        list(threads.map(work, callers))
    for caller in callers:
        caller.connection.close()
    return [status for caller in callers for status in caller.statuses]


def served(daemon: Daemon) -> list[int]:
    """How many connections each worker has."""
    return [each["edge"]["connections"] for each in daemon.status()["workers"]]


@pytest.mark.parametrize("workers", [2, 8] if FULL else [2])
@pytest.mark.parametrize(
    "options",
    [{"rate": "1/d", "burst": LIMIT}, {"rate": f"{LIMIT}/h", "algorithm": "sliding_window"}],
    ids=["token_bucket", "sliding_window"],
)
def test_workers_at_full_load_count_as_one(workers, options):
    """All callers at once, as fast as they can, long after there is room: exactly the limit comes through."""
    with Daemon(document(workers, **options)) as daemon:
        port, all_connected = daemon.port(), threading.Barrier(CALLERS)
        spread: list[list[int]] = []

        def work(caller: Caller) -> None:
            caller.ask()
            if all_connected.wait() == 0:
                spread.append(served(daemon))
            for _ in range(3 * LIMIT // CALLERS):
                caller.ask()

        statuses = calling(port, work)
    assert sum(each > 0 for each in spread[0]) > 1, "one worker got all the callers"
    assert set(statuses) == {200, 429}
    assert statuses.count(200) == LIMIT


@pytest.mark.parametrize("workers", [1, 2, 8] if FULL else [2])
@pytest.mark.parametrize(("rate", "kill"), [(100, False), (400, False), (400, True)] if FULL else [(400, True)])
def test_a_constant_load_gets_what_the_rate_promises(workers, rate, kill):
    """50/s with a burst of 20 for 6 s is 320, ± 1 %; replies that die with a worker are the only ones to be missed."""
    with Daemon(document(workers, rate="50/s", burst=20)) as daemon:
        port, victim = daemon.port(), daemon.workers()[0]
        numbers, began = count(), time.monotonic()

        def work(caller: Caller) -> None:
            while (number := next(numbers)) < rate * SECONDS:
                pace(max(0.0, began + number / rate - time.monotonic()))
                if kill and number == rate * SECONDS // 2:
                    os.kill(victim, signal.SIGKILL)
                caller.ask()

        statuses = calling(port, work)
        passed = time.monotonic() - began
    accepted, lost = statuses.count(200), statuses.count(0)
    promised = 20 + 50 * passed
    assert accepted <= promised * 1.01
    assert accepted + lost >= (20 + 50 * (passed - CALLERS / rate)) * 0.99
    assert lost <= CALLERS if kill else lost == 0


def test_what_was_under_way_in_a_killed_worker_is_under_way_no_more():
    """Two places, one in each of two workers or both in one: whoever held them is killed, and both are free again."""
    asked, over = threading.Semaphore(0), threading.Event()

    def script(peer: Peer) -> None:
        if peer.read_head():
            asked.release()
            over.wait(60)

    with ScriptedUpstream(script) as upstream, Daemon(two_places(upstream.port)) as daemon:
        port = daemon.port()
        waiting = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(2)]
        for each in waiting:
            each.request("GET", "/slow")
            assert asked.acquire(timeout=20)
        assert status_of(port) == 429
        for pid in daemon.workers():
            os.kill(pid, signal.SIGKILL)
        daemon.wait_for(lambda: status_of(port) == 200, "room again")
        over.set()
        for each in waiting:
            each.close()


def two_places(port: int) -> dict[str, Any]:
    """A route that waits for its target and one that does not; two exchanges at once on both together."""
    return {
        "gateway": {"workers": 2},
        "upstreams": {"up": {"targets": [{"address": f"127.0.0.1:{port}"}]}},
        "services": {"up": {"upstream": "up"}},
        "routes": {
            "slow": {"path": "/slow", "service": "up", "policies": ["both"]},
            "fast": {"path": "/fast", "reply": {"body": "here"}, "policies": ["both"]},
        },
        "policies": {"both": {"policy": "concurrency_limit", "limit": 2}},
    }


def status_of(port: int) -> int:
    """Of a request of its own, 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/fast")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
