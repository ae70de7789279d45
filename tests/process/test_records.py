"""Every call that a caller saw answered has exactly one record, whichever process is killed at whatever moment."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import pytest

from tests.support.daemon import FULL, Daemon, proxied
from tests.support.echo import EchoUpstream
from tests.support.load import Load
from tests.support.records import calls_in

pytestmark = pytest.mark.process

KILLS = 20 if FULL else 4
RANDOM = random.Random(4)


@pytest.fixture(scope="module")
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


def recorded(upstream, **audit):
    """A document whose calls are recorded, in segments of every length."""
    document = proxied(upstream.address)
    document["audit"] = {"enabled": True, "segment_size": "256KiB", **audit}
    document["gateway"] = {"workers": 2}
    return document


def started(document):
    """A daemon whose state lies in its folder."""
    daemon = Daemon(document, start=False)
    document["gateway"]["state_dir"] = str(daemon.folder / "state")
    daemon.write(document)
    return daemon


def prove(daemon, seen):
    """What callers saw answered is on record, once each, and the chains are whole. How many records there are."""
    count = Counter(call.request_id.decode() for call in calls_in(daemon.folder / "state"))
    assert seen.keys() - count.keys() == set()
    assert max(count.values()) == 1
    checked = daemon.call("audit", "verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return count.total()


def kill_worker(daemon):
    """One of the workers, and wait for its successor."""
    old = RANDOM.choice(daemon.status()["workers"])
    os.kill(old["pid"], signal.SIGKILL)

    def replaced():
        new = daemon.status()["workers"][old["index"]]
        return new["pid"] != old["pid"] and new["state"] == "serving"

    daemon.wait_for(replaced, "another worker")


def kill_control(daemon):
    """The control process, and wait for its successor."""
    old = daemon.control_pid()
    os.kill(old, signal.SIGKILL)

    def replaced():
        return daemon.probe("/livez")[0] == 200 and daemon.control_pid() != old

    daemon.wait_for(replaced, "another control process")


def kill_supervisor(daemon):
    """The supervisor: its workers end what they have begun. Then start it anew."""
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    daemon.launch()
    daemon.wait_until_ready()


@pytest.mark.parametrize("mode", ["batched", "strict"])
@pytest.mark.parametrize("kill", [kill_worker, kill_control])
def test_every_answered_call_has_one_record_though_processes_are_killed(upstream, kill, mode):
    with started(recorded(upstream, mode=mode)) as daemon:
        daemon.launch()
        daemon.wait_until_ready()
        with Load(daemon.port(), keep_alive=12, fresh=4, mark="x-request-id") as load:
            for _ in range(KILLS):
                load.reach(RANDOM.randrange(100, 600))
                kill(daemon)
            load.reach(200)
            outcome = load.stop()
        daemon.terminate()
        assert outcome.ok > 100 * KILLS
        assert prove(daemon, outcome.marks) >= outcome.ok


def test_every_answered_call_has_one_record_though_the_supervisor_is_killed(upstream):
    with started(recorded(upstream)) as daemon:
        daemon.launch()
        daemon.wait_until_ready()
        seen = Counter()
        for _ in range(KILLS):
            with Load(daemon.port(), keep_alive=12, fresh=4, mark="x-request-id") as load:
                load.reach(RANDOM.randrange(100, 600))
                load.stopping = True  # what is under way is answered by workers that have lost their supervisor
                kill_supervisor(daemon)
            seen += load.outcome.marks
        daemon.terminate()
        assert prove(daemon, seen) >= seen.total()
