"""Datagrams to the service manager."""

from __future__ import annotations

import os
import socket

import pytest

from gatewayd.server.notify import Notifier


@pytest.fixture(params=["file", "abstract"])
def listening(request, tmp_path):
    name = f"{tmp_path}/notify" if request.param == "file" else f"@gatewayd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.setblocking(False)
        yield name, lambda: sock.recv(1000).decode().splitlines()


def test_what_is_said(listening):
    name, heard = listening
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("generation 1")
    assert heard() == ["READY=1", "STATUS=generation 1"]
    notifier.reloading()
    said = heard()
    assert said[0] == "RELOADING=1"
    assert said[1].removeprefix("MONOTONIC_USEC=").isdigit()
    notifier.stopping()
    assert heard()[0] == "STOPPING=1"
    notifier.status("upgrading")
    assert heard() == ["STATUS=upgrading"]
    notifier.successor(42)
    assert heard() == ["MAINPID=42"]
    notifier.watchdog()
    assert heard() == ["WATCHDOG=1"]


def test_nobody_listening_is_no_trouble(tmp_path):
    Notifier({}).ready("fine")
    Notifier({"NOTIFY_SOCKET": f"{tmp_path}/gone"}).ready("fine")


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_when_a_watchdog_is_asked_for(variables, interval):
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **variables}).watchdog_interval == interval
    assert Notifier(variables).watchdog_interval == 0.0
