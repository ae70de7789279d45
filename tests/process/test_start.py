"""Starting: two workers serve, or it is said why not, with the exit code and the line that is wrong."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.daemon import Daemon, listening, proxied, wait_for
from tests.support.echo import EchoUpstream
from tests.support.peers import answers, free_port
from tests.support.raw import Caller

pytestmark = pytest.mark.process


def at(port, **more):
    """A document whose listener has this port."""
    return {**proxied("127.0.0.1:1"), "listeners": {"http": {"address": f"127.0.0.1:{port}"}}, **more}


def test_two_workers_serve_as_soon_as_they_are_there():
    port = free_port()
    with EchoUpstream() as upstream:
        document = {**at(port), **proxied(upstream.address), "gateway": {"workers": 2}}
        with Daemon(document, start=False) as daemon:
            began = time.monotonic()
            daemon.launch()
            daemon.wait_for(lambda: answers(port), "the port to be open")
            with Caller(port) as caller:
                assert caller.ask("/echo/first").body == b"first"
            print(f"from start to the first byte served: {time.monotonic() - began:.2f} s")
            daemon.wait_until_ready()
            print(f"until both workers serve, and the control process: {time.monotonic() - began:.2f} s")
            workers = daemon.workers()
            sockets = [listening(pid, port) for pid in workers]
            assert len(workers) == 2
            assert [len(each) for each in sockets] == [1, 1]
            assert sockets[0] != sockets[1]
            assert daemon.terminate() == 0
            wait_for(lambda: not answers(port), "the port to be closed")


def test_a_port_that_a_stranger_has_is_said():
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with Daemon(at(port), start=False) as daemon:
            found = daemon.call("run")
    assert found.returncode == 2
    assert (
        f"listeners.http.address: cannot listen there: in use by another process; found 127.0.0.1:{port}"
        in found.stderr
    )


def test_everything_that_is_wrong_is_said_at_once():
    wrong = {"gateway": {"workers": 0}, "nonsense": {}, "access_log": {"path": "missing/folder/access.log"}}
    with Daemon(at(0, **wrong), start=False) as daemon:
        daemon.launch()
        assert daemon.wait() == 2
        checked = daemon.call("check")
        assert checked.returncode == 2
        for key in ("gateway.workers", "nonsense"):
            assert f": {key}: " in daemon.log
            assert f": {key}: " in checked.stderr
        assert "Traceback" not in daemon.log + checked.stderr
