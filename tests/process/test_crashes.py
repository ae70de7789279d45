"""Processes that are killed: each takes along what only it could know, and nothing else."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.daemon import Daemon, listening, marked, proxied, wait_for
from tests.support.echo import EchoUpstream
from tests.support.load import Load

pytestmark = pytest.mark.process

KEPT, FRESH = 12, 6
BROKEN_OFF = {"closed before its reply", "reset before its reply", "closed between two requests without a word"}


@pytest.fixture(scope="module")
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


@pytest.fixture
def daemon(upstream):
    """Two workers that proxy to it."""
    with Daemon(marked({**proxied(upstream.address), "gateway": {"workers": 2}}, 1)) as daemon:
        yield daemon


def test_a_killed_worker_takes_only_its_exchanges_along(daemon):
    port = daemon.port()
    sockets = [listening(pid, port) for pid in daemon.workers()]
    assert [len(each) for each in sockets] == [1, 1]
    with Load(port, keep_alive=KEPT, fresh=FRESH) as load:
        for round_number in range(5):
            load.reach(500)
            workers = daemon.status()["workers"]
            victim = workers[round_number % 2]
            held = victim["edge"]["connections"]
            failed = sum(load.outcome.failed.values())
            os.kill(victim["pid"], signal.SIGKILL)
            daemon.wait_for(lambda old=victim: replaced(daemon, old), "another worker with callers")
            new = daemon.status()["workers"][victim["index"]]
            assert listening(new["pid"], port) == sockets[victim["index"]]
            load.reach(500)
            assert sum(load.outcome.failed.values()) - failed <= held + FRESH
        outcome = load.stop()
    assert outcome.refused == 0
    assert set(outcome.failed) <= BROKEN_OFF
    assert [each["restarts"] for each in workers] == [2, 2]


def replaced(daemon, old):
    """Whether the worker `old` has a successor that serves and has connections already."""
    worker = daemon.status()["workers"][old["index"]]
    return worker["pid"] != old["pid"] and worker["state"] == "serving" and (worker["edge"] or {}).get("connections")


def test_a_killed_control_process_is_missed_by_nobody(daemon):
    with Load(daemon.port(), keep_alive=4, fresh=4) as load:
        load.reach(200)
        before = daemon.control_pid()
        os.kill(before, signal.SIGKILL)
        load.reach(200)
        daemon.wait_for(lambda: daemon.probe("/readyz")[0] == 200, "probes to be answered again")
        assert daemon.status()["control"]["restarts"] == 1
        assert daemon.control_pid() != before
        assert daemon.metric("gatewayd_requests_total") >= 400
        outcome = load.stop()
    assert (outcome.failed, outcome.refused) == ({}, 0)


def test_a_killed_supervisor_leaves_nobody_behind(daemon):
    everybody = daemon.members()
    assert len(everybody) == 4
    with Load(daemon.port(), keep_alive=4, patient=8) as load:
        load.reach(200)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.process.wait(20)
        wait_for(lambda: not daemon.members(), "workers and the control process to end")
        outcome = load.stop()
    assert outcome.failed == {}
    assert "the supervisor is gone; draining" in daemon.log
    daemon.launch()  # what the dead one left, such as the file of its control socket, is in nobody's way
    daemon.wait_until_ready()
    assert daemon.terminate() == 0


def resting_briefly(*upstreams):
    """Proxied to these; a target that fails is soon tried again."""
    document = proxied(*(each.address for each in upstreams))
    document["upstreams"]["up"]["passive_health"] = {"eject": "500ms"}
    return document


def test_a_target_that_dies_fails_no_request_while_another_lives():
    with EchoUpstream() as one, EchoUpstream() as two, Daemon(resting_briefly(one, two)) as daemon:
        with Load(daemon.port(), keep_alive=8, fresh=4) as load:
            for victim in (one, two, one):
                load.reach(500)
                victim.kill()
                load.reach(500)
                victim.start()
                asked = victim.counts()["requests"]
                wait_for(lambda victim=victim, asked=asked: victim.counts()["requests"] > asked + 100, "it to be used")
            outcome = load.stop()
        assert daemon.metric("gatewayd_upstream_retries_total") > 0
    assert (outcome.failed, outcome.refused) == ({}, 0)
