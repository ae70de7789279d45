"""Stored replies of several workers: what one forgets all forget."""

from __future__ import annotations

import itertools

import pytest

from tests.cache.scenes import FRESH, Origin, document, reply
from tests.support.daemon import Daemon
from tests.support.raw import Answer, Caller

pytestmark = pytest.mark.process


class Crew:
    """Callers of a daemon with two workers, at each of them one."""

    def __init__(self, daemon: Daemon, origin: Origin) -> None:
        self.origin = origin
        self.probes = itertools.count()
        port = daemon.port()
        self.callers = [Caller(port), Caller(port)]
        while not self.apart():
            self.callers.pop().sock.close()
            self.callers.append(Caller(port))

    def apart(self) -> bool:
        """Whether the two are served by different workers: what one has fetched the other has not."""
        self.origin.asked.clear()
        path = f"/probe/{next(self.probes)}/of/workers"
        for caller in self.callers:
            caller.ask(path)
        return self.origin.count == 2

    def get(self, path: str) -> list[Answer]:
        """What each worker answers."""
        return [caller.ask(path) for caller in self.callers]


@pytest.fixture
def origin():
    with Origin(lambda asked: reply(FRESH, f"cache-tag: t{asked.target.count('/')}")) as found:
        yield found


@pytest.fixture
def daemon(origin):
    with Daemon({**document(origin.port), "gateway": {"workers": 2}}) as found:
        yield found


def hits(answers: list[Answer]) -> list[bool]:
    """Which were answered from the store."""
    return ["hit" in answer.headers.get("cache-status", "") for answer in answers]


def test_purging_and_invalidating_hold_for_all_workers(daemon, origin):
    crew = Crew(daemon, origin)
    for words, purged in ((["--url", "/a"], 2), (["--tag", "t2"], 2), (["--prefix", "test/c"], 2)):
        path = "/a" if words[1] == "/a" else "/b/b" if words[1] == "t2" else "/c"
        crew.get(path)
        assert hits(crew.get(path)) == [True, True]
        done = daemon.call("cache", "purge", *words)
        assert done.stdout == f"{purged} purged\n", done.stderr
        assert hits(crew.get(path)) == [False, False]
    crew.get("/d")
    crew.callers[0].ask("/d", method="DELETE")
    assert hits(crew.get("/d")) == [False, False]
    assert daemon.call("cache", "purge", "--all").stdout.endswith(" purged\n")
    assert hits(crew.get("/d")) == [False, False]
    for caller in crew.callers:
        caller.sock.close()
