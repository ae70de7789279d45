"""Callers that hold connections."""

from __future__ import annotations

import socket

import pytest

from benchmarks.callers import PER_ADDRESS, Callers, source
from benchmarks.processes import free_port


def test_they_come_from_many_addresses():
    addresses = [source(index) for index in range(8000)]
    assert max(addresses.count(address) for address in set(addresses)) == PER_ADDRESS
    assert all(address.startswith("127.0.") for address in addresses)


def test_idle_ones_have_been_served_and_stay(server):
    callers = Callers(server.port, "idle", "/", 2500)
    callers.open(5)
    callers.notice_closed()
    assert callers.counts() == {"open": 5, "closed": 0, "refused": 0, "bytes": 0}
    assert server.requests == 5
    callers.close()


def test_idle_ones_that_get_no_200_count_as_refused(server):
    callers = Callers(server.port, "idle", "/missing", 2500)
    callers.open(2)
    assert callers.counts()["refused"] == 2
    callers.close()


def test_idle_ones_that_the_server_drops_are_noticed(server):
    callers = Callers(server.port, "idle", "/close", 2500)
    callers.open(2)
    for connection in callers.sockets:
        connection.setblocking(True)
        assert connection.recv(1, socket.MSG_PEEK) == b""
        connection.setblocking(False)
    callers.notice_closed()
    assert (callers.counts()["open"], callers.counts()["closed"]) == (0, 2)


def test_nobody_there_is_refused():
    callers = Callers(free_port(), "idle", "/", 2500)
    callers.open(1)
    assert callers.counts() == {"open": 0, "closed": 0, "refused": 1, "bytes": 0}


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def test_readers_take_no_more_than_their_rate_at_a_turn(listener):
    callers = Callers(listener.getsockname()[1], "read", "/huge/100000", 2500)
    callers.open(1)
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(65536).startswith(b"GET /huge/100000 HTTP/1.1\r\n")
        connection.sendall(b"x" * 3000)
        callers.sockets[0].setblocking(True)
        assert len(callers.sockets[0].recv(3000, socket.MSG_PEEK)) > 2500
        callers.sockets[0].setblocking(False)
        callers.turn = -1
        callers.take_turn()
        assert callers.counts()["bytes"] == 2500
        callers.close()


def test_senders_never_finish_their_head_and_come_back_when_cut_off(listener):
    callers = Callers(listener.getsockname()[1], "drip", "/", 2500)
    callers.open(1)
    connection, _ = listener.accept()
    callers.turn = -1
    callers.take_turn()
    connection.settimeout(5)
    data = connection.recv(65536)
    while not data.endswith(b"x"):
        data += connection.recv(65536)
    assert b"\r\n\r\n" not in data
    connection.close()
    while not callers.closed:
        callers.turn = -1
        callers.take_turn()
    again, _ = listener.accept()
    again.close()
    assert callers.counts()["open"] == 1
    callers.close()
