"""The collector is killed again and again while it follows workers that write: nothing is double, nothing missing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from gatewayd.audit.record import Caller, Operation, Personal
from gatewayd.collect.store import Store

from .spooled import START, Spooled, call, sealed
from .test_rollups import differences

KILLS = 20
WORK = """
import sys
from pathlib import Path
from gatewayd.audit.keys import load_signer
from gatewayd.collect import following, ingest, rollups
from gatewayd.collect.chains import Figures
from gatewayd.collect.store import Store
from gatewayd.config.collector import Collector
from gatewayd.core.clock import FakeClock

following.PIECE, ingest.TRANSACTION = 4000, 40
state, wall = Path(sys.argv[1]), float(sys.argv[2])
store = Store(state / "calls.duckdb")
config = Collector(keep_calls=0.0, keep_10s=0.0, keep_1m=0.0, keep_1h=0.0, keep_1d=0.0)
clock = FakeClock(wall=wall)
worker = ingest.Ingest(store, state, load_signer(state), clock, Figures())
print("begun", flush=True)
while True:
    more = worker.step(config)
    clock.advance(7.0)
    if not more and sys.argv[3] == "to the end":
        break
worker.close()
store.close()
"""


class Writing(threading.Thread):
    """Two workers that write until they are told to end; one ends its segments often, one crashes and loses records."""

    def __init__(self, state):
        super().__init__()
        self._state = state
        self._chosen = random.Random(5)
        self.chains = [Spooled(state, "calls-0"), Spooled(state, "calls-1")]
        self.ending = threading.Event()
        self.numbers = [[], []]
        self.second = 0.0

    def run(self):
        """Write, a few records at a time."""
        while not self.ending.wait(0.02):  # so many that working off what is left takes no minute
            which = self._chosen.randrange(2)
            self._write(which, self._chosen.randrange(1, 30))
            if self._chosen.random() < 0.05:
                if which:
                    self.chains[1].gap(3)
                else:
                    self.chains[0].turn()

    def _write(self, which, count):
        chain = self.chains[which]
        calls = []
        for _ in range(count):
            self.second += 0.21
            late = self._chosen.choice([0, 0, 0, 0, 100, 5000])
            calls.append(
                call(
                    START + self.second - late,
                    caller=Caller(f"c{self._chosen.randrange(5)}"),
                    operation=Operation(f"r{self._chosen.randrange(3)}"),
                    status=self._chosen.choice([200, 200, 404, 503]),
                    total=self._chosen.randrange(100_000),
                    personal=None,
                    sealed=self._seals[self._chosen.randrange(3)],
                )
            )
        first = chain.chain.records + 1
        chain.add(*calls)
        self.numbers[which] += range(first, first + count)

    @property
    def _seals(self):
        if not hasattr(self, "_made"):
            self._made = [sealed(self._state, f"c{number}", Personal("192.0.2.7")) for number in range(3)]
        return self._made


def begin(state, wall, until="killed"):
    """A process that collects."""
    command = [sys.executable, "-c", WORK, str(state), str(wall), until]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.process
def test_killed_at_any_moment_each_record_is_there_once(tmp_path):
    writing = Writing(tmp_path)
    writing.start()
    chosen = random.Random(11)
    try:
        for _ in range(KILLS):
            with begin(tmp_path, START + writing.second) as process:
                writing.ending.wait(chosen.uniform(0.0, 0.4))  # any moment will do
                assert process.poll() is None
                os.kill(process.pid, signal.SIGKILL)
    finally:
        writing.ending.set()
        writing.join()
    with begin(tmp_path, START + writing.second, "to the end") as process:
        assert process.wait(60) == 0
    store = Store(tmp_path / "calls.duckdb")
    with store.cursor() as cursor:
        for number, expected in enumerate(writing.numbers):
            query = 'SELECT "number" FROM calls WHERE chain = ? ORDER BY ALL'
            found = [row[0] for row in cursor.execute(query, [f"calls-{number}"]).fetchall()]
            assert found == expected
        assert differences(cursor) == []
        assert cursor.execute("SELECT count(*) FROM calls WHERE client IS NULL").fetchone() == (0,)
        assert cursor.execute("SELECT count(*) > 0 FROM rollup_1h").fetchone() == (True,)
    store.close()
