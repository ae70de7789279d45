"""Quotas of a real daemon: what was used is there again, whoever was killed, and all workers count together."""

from __future__ import annotations

import http.client
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.daemon import Daemon, wait_for

pytestmark = pytest.mark.process

LIMIT = 60


def document(workers: int = 2, state_dir: str = "state") -> dict[str, object]:
    """A route that answers by itself, so often a year for each user."""
    return {
        "gateway": {"workers": workers, "state_dir": state_dir},
        "routes": {"all": {"path": "/*", "reply": {"body": "here"}, "policies": ["yearly"]}},
        "policies": {"yearly": {"policy": "quota", "limit": LIMIT, "per": "year", "key": "header:x-user"}},
    }


def ask(port: int, user: str, times: int) -> list[int]:
    """Statuses of so many requests, each on a connection of its own: whichever worker it goes to."""
    found = []
    for _ in range(times):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", "/", headers={"x-user": user})
            found.append(connection.getresponse().status)
        finally:
            connection.close()
    return found


def left(daemon: Daemon, user: str = "ann") -> int:
    """How often the user may come yet, by asking until it is refused; then nothing is left."""
    port, count = daemon.port(), 0
    while ask(port, user, 1) == [200]:
        count += 1
    return count


def all_killed(daemon: Daemon) -> None:
    """SIGKILL to the supervisor and everything it started, at once."""
    os.killpg(daemon.pid, signal.SIGKILL)
    daemon.process.wait(20)
    wait_for(lambda: not daemon.members(), "every process gone")


def test_killed_workers_lose_nothing():
    with Daemon(document()) as daemon:
        for round_number in range(2):
            assert ask(daemon.port(), "ann", 10) == [200] * 10
            before = daemon.status()["workers"]
            os.kill(before[round_number]["pid"], signal.SIGKILL)
            daemon.wait_for(lambda old=before: back(daemon, old), "the worker again")
        assert left(daemon) == LIMIT - 20
        assert left(daemon, "bob") == LIMIT


def back(daemon: Daemon, old: list[dict[str, int]]) -> bool:
    """Whether both serve, one of them new."""
    workers = daemon.status()["workers"]
    return {each["state"] for each in workers} == {"serving"} and [each["pid"] for each in workers] != [
        each["pid"] for each in old
    ]


def test_killed_daemons_lose_nothing():
    with Daemon(document()) as daemon:
        for _ in range(2):
            assert ask(daemon.port(), "ann", 10) == [200] * 10
            all_killed(daemon)
            daemon.launch()
            daemon.wait_until_ready()
        assert left(daemon) == LIMIT - 20


def test_the_number_of_workers_makes_no_difference():
    with Daemon(document(workers=1)) as daemon:
        for number, workers in enumerate((3, 1, 2), 1):
            assert ask(daemon.port(), "ann", 10) == [200] * 10
            daemon.write(document(workers))
            daemon.reload()
            daemon.wait_for(lambda count=workers: len(daemon.workers()) == count, f"{workers} workers, {number}")
        assert daemon.terminate() == 0
        daemon.write(document(workers=4))
        daemon.launch()
        daemon.wait_until_ready()
        assert left(daemon) == LIMIT - 30


def test_an_upgraded_daemon_counts_on():
    with Daemon(document()) as daemon:
        assert ask(daemon.port(), "ann", 10) == [200] * 10
        old = daemon.pid
        daemon.signal(signal.SIGUSR2)
        daemon.process.wait(60)
        daemon.wait_for(lambda: daemon.probe("/status")[0] == 200 and daemon.status()["pid"] != old, "the successor")
        daemon.wait_until_ready()
        assert left(daemon) == LIMIT - 10


def test_workers_count_together_exactly():
    """Bursts of several users at once: each is let through as often as it may be, and not once more."""
    users = [f"user{number}" for number in range(4)]
    with Daemon(document()) as daemon, ThreadPoolExecutor(12) as pool:
        port = daemon.port()
        jobs = [(user, pool.submit(ask, port, user, LIMIT // 2)) for _ in range(3) for user in users]
        through = Counter[tuple[str, int]]()
        for user, job in jobs:
            through.update((user, status) for status in job.result())
        answered = {each["pid"] for each in daemon.status()["workers"]}
    assert len(answered) == 2
    assert {user: through[user, 200] for user in users} == dict.fromkeys(users, LIMIT)
    assert {user: through[user, 429] for user in users} == dict.fromkeys(users, LIMIT // 2)


def test_a_state_directory_that_cannot_be_written_is_a_fault_of_the_configuration():
    with Daemon(document(state_dir="conf.toml"), start=False) as daemon:
        done = daemon.call("run")
    assert done.returncode == 2
    assert "gateway.state_dir: cannot be written" in done.stderr


def test_so_is_something_in_its_way():
    with Daemon(document(), start=False) as daemon:
        (daemon.folder / "state").mkdir()
        (daemon.folder / "state" / "quotas").touch()
        done = daemon.call("run")
    assert done.returncode == 2
    assert "policies.yearly: what is used cannot be kept" in done.stderr
    assert "see gateway.state_dir" in done.stderr
