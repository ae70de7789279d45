"""Watches: what is too slow, and what is not."""

from __future__ import annotations

import socket

import pytest

from gatewayd.config.model import Timeouts
from gatewayd.config.units import Duration, Rate
from gatewayd.wire.watch import BodyWatch, SendWatch, reset_on_close, unacknowledged
from tests.wire.transports import FakeTransport

TIMES = Timeouts(body_idle=Duration(30), body_min_rate=Rate(100), body_grace=Duration(10))


def test_a_body_that_stops_is_too_slow_after_its_idle_time() -> None:
    watch = BodyWatch(0, 0.0)
    assert [bool(watch.too_slow(10_000, True, TIMES, float(now))) for now in (1, 15, 30)] == [False] * 3
    assert watch.too_slow(10_000, True, TIMES, 31.0) == "nothing of the body came for 30 s"


def test_the_rate_counts_from_the_beginning_and_only_after_the_grace() -> None:
    watch = BodyWatch(0, 0.0)
    assert not watch.too_slow(50, True, TIMES, 10.0)
    assert watch.too_slow(1000, True, TIMES, 11.0) == "the body comes at less than 100 bytes/s"
    watch = BodyWatch(0, 0.0)
    assert not watch.too_slow(2000, True, TIMES, 11.0)
    assert not watch.too_slow(2001, True, TIMES, 20.0), "a quick beginning makes up for a pause"
    assert watch.too_slow(2002, True, TIMES, 21.0)


def test_a_pause_is_no_dripping() -> None:
    """Three bytes and then nothing: the caller may be making up the rest, and has its idle time for that."""
    watch = BodyWatch(0, 0.0)
    assert [bool(watch.too_slow(3, True, TIMES, float(now))) for now in (1, 11, 30)] == [False] * 3
    assert watch.too_slow(3, True, TIMES, 31.0) == "nothing of the body came for 30 s"
    watch = BodyWatch(0, 0.0)
    assert not watch.too_slow(3, True, TIMES, 1.0)
    assert not watch.too_slow(3, True, TIMES, 29.0)
    assert watch.too_slow(4, True, TIMES, 30.0) == "the body comes at less than 100 bytes/s"


def test_no_rate_is_asked_for_where_it_is_off() -> None:
    watch = BodyWatch(0, 0.0)
    times = Timeouts(body_min_rate=Rate(0))
    assert not any(watch.too_slow(now, True, times, float(now)) for now in range(1, 1000))


def test_time_in_which_nothing_is_read_does_not_count() -> None:
    watch = BodyWatch(0, 0.0)
    assert not watch.too_slow(500, True, TIMES, 5.0)
    assert not watch.too_slow(500, False, TIMES, 500.0)
    assert not watch.too_slow(501, True, TIMES, 504.0)
    assert not watch.too_slow(501, True, TIMES, 505.0)  # 10 s of reading, and 4 idle
    assert watch.too_slow(502, True, TIMES, 506.0)


def test_what_came_before_the_watch_does_not_count_either() -> None:
    watch = BodyWatch(10_000, 0.0)
    assert watch.too_slow(10_100, True, TIMES, 11.0)


def test_a_reader_stalls_when_nothing_leaves_for_so_long() -> None:
    watch = SendWatch(0.0)
    transport = FakeTransport()
    transport.written = b"x" * 100
    assert not watch.stalled(transport, 60.0, 1.0)
    assert not watch.stalled(transport, 60.0, 60.9)
    transport.written = b"x" * 99
    assert not watch.stalled(transport, 60.0, 61.0)
    assert not watch.stalled(transport, 60.0, 120.9)
    assert watch.stalled(transport, 60.0, 121.0)


def test_what_leaves_the_kernel_counts_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as near:
        far, _ = listening.accept()
        with far:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            near.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    near.send(bytes(65536))
            transport = FakeTransport(socket=near)
            before = unacknowledged(transport)
            assert before > 0
            watch = SendWatch(0.0)
            assert not watch.stalled(transport, 10.0, 1.0)
            read = 0
            while unacknowledged(transport) == before:
                read += len(far.recv(65536))
            assert read
            assert not watch.stalled(transport, 10.0, 100.0)


def test_a_transport_without_a_socket_or_with_a_closed_one_holds_nothing() -> None:
    sock = socket.socket()
    sock.close()
    for transport in (FakeTransport(), FakeTransport(socket=sock)):
        assert unacknowledged(transport) == 0
        reset_on_close(transport)


def test_a_close_can_be_made_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as near:
        far, _ = listening.accept()
        with far:
            reset_on_close(FakeTransport(socket=far))
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_a_unix_socket_cannot_be_reset_and_is_left_alone() -> None:
    near, far = socket.socketpair()
    with near, far:
        reset_on_close(FakeTransport(socket=near))
