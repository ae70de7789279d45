"""Leaving: drained by SIGTERM, at once by SIGQUIT, replaced by SIGUSR2. Nobody who was let in is let down."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.support.daemon import Daemon, command_of, marked, proxied, wait_for
from tests.support.echo import EchoUpstream
from tests.support.load import Load
from tests.support.raw import Caller

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


def document(upstream, generation=1, **gateway):
    """Two workers that proxy to `upstream`."""
    return marked({**proxied(upstream.address), "gateway": {"workers": 2, **gateway}}, generation)


def closed(port):
    """Whether nobody listens there any more."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_sigterm_lets_everything_end_that_has_begun(upstream):
    with Daemon(document(upstream)) as daemon, Caller(daemon.port()) as slow, Caller(daemon.port()) as idle:
        assert idle.ask("/echo/before").status == 200
        with Load(daemon.port(), keep_alive=6, fresh=6, patient=20) as load:
            load.reach(2_000)
            asked = upstream.counts()["requests"]
            slow.send(b"GET /slow/2/patience HTTP/1.1\r\nhost: test\r\n\r\n")
            wait_for(lambda: upstream.counts()["requests"] > asked + 20)
            daemon.signal(signal.SIGTERM)
            wait_for(lambda: load.outcome.refused > 20, "the port to be closed")
            late = idle.ask("/echo/late")
            found = slow.answer()
            assert daemon.wait() == 0
            outcome = load.stop()
    assert (found.body, found.headers["connection"]) == (b"patience", "close")
    assert (late.body, late.headers["connection"]) == (b"late", "close")
    assert outcome.failed == {}


def test_the_drain_ends_at_its_deadline(upstream):
    with Daemon(document(upstream, drain_timeout="1s")) as daemon, Caller(daemon.port()) as hanging:
        asked = upstream.counts()["requests"]
        hanging.send(b"GET /hang HTTP/1.1\r\nhost: test\r\n\r\n")
        wait_for(lambda: upstream.counts()["requests"] > asked + 1)
        assert daemon.terminate() == 0
        assert hanging.to_end() == b""
        assert '"path":"/hang"' in daemon.access_log.read_text()


def test_sigquit_waits_for_nobody(upstream):
    with Daemon(document(upstream, drain_timeout="10m")) as daemon, Caller(daemon.port()) as hanging:
        asked = upstream.counts()["requests"]
        hanging.send(b"GET /hang HTTP/1.1\r\nhost: test\r\n\r\n")
        wait_for(lambda: upstream.counts()["requests"] > asked + 1)
        daemon.signal(signal.SIGQUIT)
        assert daemon.wait() == 0
        assert hanging.to_end() == b""
        assert closed_everywhere(daemon)


def closed_everywhere(daemon):
    """Whether nothing of it is left, its control socket included."""
    return not daemon.members() and not (daemon.folder / "control.sock").exists()


def test_an_upgrade_fails_nothing(upstream):
    with Daemon(document(upstream, drain_idle_grace="1s")) as daemon:
        old, port = daemon.pid, daemon.port()
        with Load(port, keep_alive=6, fresh=6, patient=20) as load, Caller(port) as slow:
            load.reach(1_000)
            slow.send(b"GET /slow/2/patience HTTP/1.1\r\nhost: test\r\n\r\n")
            daemon.write(document(upstream, 2, drain_idle_grace="1s"))
            for _ in range(2):
                before = daemon.status()["pid"]
                daemon.signal(signal.SIGUSR2)
                daemon.wait_for(lambda before=before: served_by_another(daemon, before), "the new daemon")
                daemon.pid = daemon.status()["pid"]
                daemon.wait_for(lambda before=before: not command_of(before), "the old one's end")
                load.reach(1_000)
            assert slow.answer().body == b"patience"
            outcome = load.stop()
        assert daemon.process.wait(0) == 0
        assert daemon.port() == port
        assert daemon.pid != old
        assert daemon.terminate() == 0
        assert closed(port)
    assert (outcome.failed, outcome.refused) == ({}, 0)
    assert set(outcome.marks) == {"1", "2"}


def served_by_another(daemon, before):
    """Whether a supervisor other than `before` is ready; while they change places, nobody may know."""
    ready, status = daemon.probe("/readyz")[0], daemon.probe("/status")
    return ready == 200 and status[0] == 200 and status[1]["pid"] != before


def test_an_upgrade_that_fails_changes_nothing(upstream):
    with Daemon(document(upstream)) as daemon, Load(daemon.port(), keep_alive=4, fresh=4) as load:
        right = daemon.conf.read_text()
        daemon.write_text(right + "[nonsense]\n")
        daemon.signal(signal.SIGUSR2)
        daemon.wait_for(lambda: "upgrade failed" in daemon.log, "the upgrade to fail")
        assert f"conf.toml:{right.count(chr(10)) + 1}: nonsense" in daemon.log
        assert "generation 1 serves on: the new daemon ended with status 2" in daemon.log
        load.reach(500)
        assert daemon.status()["pid"] == daemon.pid
        assert len(daemon.workers()) == 2
        assert daemon.members() == {daemon.pid, daemon.control_pid(), *daemon.workers()}
        outcome = load.stop()
    assert (outcome.failed, outcome.refused) == ({}, 0)
