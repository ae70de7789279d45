"""`gatewayd top` before a real daemon, printed once and at a terminal."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest

from tests.support.daemon import ROOT, WAIT, Daemon, proxied
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    state = tmp_path_factory.mktemp("state")
    recorded = {"gateway": {"state_dir": str(state)}, "audit": {"enabled": True}}
    with ScriptedUpstream() as upstream, Daemon(proxied(f"127.0.0.1:{upstream.port}") | recorded) as daemon:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=WAIT)
        for _ in range(20):
            connection.request("GET", "/")
            connection.getresponse().read()
        connection.close()
        daemon.wait_for(lambda: daemon.metric("gatewayd_requests_total") == 20, "all counted")
        yield daemon


def test_one_look(daemon):
    done = daemon.call("top", "--once", "--interval", "0.1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gatewayd ")
    for word in ("all", "workers", "req/s", "closed"):
        assert word in done.stdout.split()


def test_one_look_as_json(daemon):
    done = daemon.call("top", "--once", "--json", "--interval", "0.1")
    found = json.loads(done.stdout)
    assert found["overview"]["routes"]["all"]["classes"][1] == 20
    assert [each["name"] for each in found["routes"]] == ["all"]


def test_consumers_are_those_of_the_call_log(daemon):
    def shown() -> list[str]:
        done = daemon.call("top", "--once", "--interval", "0.1")
        return [line for line in done.stdout.splitlines() if "(nobody known)" in line]

    daemon.wait_for(shown, "collected calls")
    assert "(nobody known)" in shown()[0]


class Terminal:
    """A command at a terminal of 80 by 24."""

    def __init__(self, command: list[str], folder: str) -> None:
        self.end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(other)
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        self.process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, cwd=folder, env=environ)
        self.other = other
        self.shown = b""

    def until(self, text: bytes) -> None:
        """Read on until the terminal got `text`."""
        while text not in self.shown:
            ready, _, _ = select.select([self.end], [], [], WAIT)
            assert ready, self.shown[-2_000:]
            self.shown += os.read(self.end, 65536)

    def press(self, key: bytes) -> None:
        """Type a key; what was shown before is forgotten."""
        self.shown = b""
        os.write(self.end, key)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT)
        os.close(self.end)
        os.close(self.other)


def test_at_a_terminal_it_shows_orders_and_ends(daemon):
    terminal = Terminal(daemon.command("top", "--interval", "0.2"), str(daemon.folder))
    try:
        terminal.until(b"by rps")
        terminal.until(b"closed")
        terminal.press(b"s")
        terminal.until(b"by p99")
        terminal.press(b"q")
        terminal.until(b"\x1b[?1049l")  # back to the screen there was
        assert terminal.process.wait(WAIT) == 0
        assert termios.tcgetattr(terminal.other) == terminal.before
    finally:
        terminal.close()


def test_where_no_daemon_is_it_says_so():
    idle = Daemon({}, start=False)
    done = idle.call("top", "--once")
    idle.__exit__(None)
    assert done.returncode == 1
    assert "no daemon answers" in done.stderr
