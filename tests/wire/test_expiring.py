"""Deadlines of a caller's connection, without sockets; whole stories over real ones stand in test_slow.py."""

from __future__ import annotations

import pytest

from gatewayd.config.model import Timeouts
from gatewayd.config.units import Duration, Rate
from gatewayd.core.exchange import UNKNOWN_LENGTH
from gatewayd.wire.replying import CLOSED, HEAD, LINGER
from tests.wire.one_caller import OneCaller


def test_each_phase_has_its_time() -> None:
    times = Timeouts(head=Duration(7), keepalive=Duration(20), linger=Duration(3))
    for begun, seconds in ((b"", 7), (b"GET", 7)):
        caller = OneCaller(timeouts=times)
        if begun:
            caller.connection.data_received(begun)
        caller.pass_time(seconds - 1)
        assert caller.connection.phase == HEAD
        caller.pass_time(1)
        assert caller.connection.phase == (LINGER if begun else CLOSED)
    caller.taken()
    caller.pass_time(2)
    assert caller.connection.phase == LINGER
    caller.pass_time(1)
    assert caller.transport.fate == "aborted"


def test_a_refusal_is_sent_to_its_end_while_it_is_read() -> None:
    caller = OneCaller(timeouts=Timeouts(linger=Duration(2), send_idle=Duration(5)))
    caller.ask("content-length: 1000000", start="POST / HTTP/1.1", body=b"hello")
    caller.reply()
    assert caller.connection.phase == LINGER
    for _ in range(20):
        caller.transport.written = caller.transport.written[1:]
        caller.pass_time(1)
        assert caller.transport.fate == ""
    caller.pass_time(4)
    assert caller.transport.fate == "", "it has five seconds to read on"
    caller.pass_time(1)
    assert caller.transport.fate == "aborted"


def test_what_is_read_wholly_is_closed_when_the_time_is_over() -> None:
    caller = OneCaller(timeouts=Timeouts(linger=Duration(2), send_idle=Duration(60)))
    caller.ask("content-length: 1000000", start="POST / HTTP/1.1", body=b"hello")
    caller.reply()
    caller.pass_time(10)
    assert caller.transport.fate == ""
    caller.taken()
    caller.pass_time(1)
    assert caller.transport.fate == "aborted"


def test_a_request_that_waits_for_its_reply_has_no_deadline_here() -> None:
    caller = OneCaller()
    caller.ask()
    caller.pass_time(10_000)
    assert caller.transport.fate == ""
    caller.reply()
    caller.pass_time(74)
    assert caller.transport.fate == ""
    caller.pass_time(1)
    assert caller.transport.fate == "closed"


def test_a_body_is_watched_until_it_is_complete() -> None:
    caller = OneCaller(timeouts=Timeouts(body_idle=Duration(5), body_min_rate=Rate(0)))
    caller.ask("content-length: 10", start="POST / HTTP/1.1", body=b"hello")
    caller.connection.read_body(caller.sink)
    caller.pass_time(4)
    assert caller.transport.fate == ""
    caller.connection.data_received(b"world")
    caller.pass_time(100)
    assert caller.sink.heard == [b"world", []] or caller.sink.heard == [b"hello", b"world", []]
    assert caller.transport.fate == ""


def test_a_body_that_stops_is_refused_once() -> None:
    caller = OneCaller(timeouts=Timeouts(body_idle=Duration(5), linger=Duration(1)))
    caller.ask("content-length: 10", start="POST / HTTP/1.1", body=b"hello")
    caller.connection.read_body(caller.sink)
    caller.pass_time(6)
    assert caller.taken().startswith(b"HTTP/1.1 408 ")
    assert caller.sink.heard == [b"hello", "gone"]
    assert caller.ended == [caller.exchange]
    caller.pass_time(2)
    assert caller.transport.fate == "aborted"


def test_a_body_that_stops_behind_its_early_reply_breaks_the_reply_off() -> None:
    caller = OneCaller(timeouts=Timeouts(body_idle=Duration(5)))
    caller.ask("content-length: 10", start="POST / HTTP/1.1", body=b"hello")
    caller.connection.read_body(caller.sink)
    caller.connection.start_reply(200, [], UNKNOWN_LENGTH)
    caller.pass_time(6)
    assert caller.transport.fate == "aborted"
    assert caller.sink.heard == [b"hello", "gone"]


def test_a_paused_body_is_not_slow() -> None:
    caller = OneCaller(timeouts=Timeouts(body_idle=Duration(5)))
    caller.ask("content-length: 10", start="POST / HTTP/1.1", body=b"hello")
    caller.connection.read_body(caller.sink)
    caller.connection.pause_body()
    assert not caller.transport.reading
    caller.pass_time(1000)
    assert caller.transport.fate == ""
    caller.connection.resume_body()
    assert caller.transport.reading
    caller.pass_time(6)
    assert caller.taken().startswith(b"HTTP/1.1 408 ")


def test_early_body_waits_until_somebody_asks_for_it_and_a_pause_then_holds() -> None:
    caller = OneCaller()
    caller.ask("content-length: 100", start="POST / HTTP/1.1", body=b"hello")
    assert not caller.transport.reading

    class Full(type(caller.sink)):  # type: ignore[misc]
        def body(self, data: bytes) -> None:
            super().body(data)
            caller.connection.pause_body()

    sink = Full()
    caller.connection.read_body(sink)
    assert sink.heard == [b"hello"]
    assert not caller.transport.reading


def test_a_reader_that_stalls_is_given_up_and_one_that_reads_is_not() -> None:
    caller = OneCaller(timeouts=Timeouts(send_idle=Duration(10)))
    caller.ask()
    caller.connection.read_body(caller.sink)
    caller.connection.start_reply(200, [], 1_000_000, bytes(1000))
    caller.connection.pause_writing()
    assert caller.sink.heard == ["pause"]
    for _ in range(50):
        caller.transport.written = caller.transport.written[:-1]
        caller.pass_time(9)
    assert caller.transport.fate == ""
    caller.pass_time(11)
    assert caller.transport.fate == "aborted"
    assert caller.exchange.reason == "caller_reads_nothing"
    assert caller.sink.heard == ["pause", "gone"]


def test_a_reader_that_catches_up_is_served_on() -> None:
    caller = OneCaller(timeouts=Timeouts(send_idle=Duration(10)))
    caller.ask()
    caller.connection.read_body(caller.sink)
    caller.connection.start_reply(200, [], 2000, bytes(1000))
    caller.connection.pause_writing()
    caller.pass_time(9)
    caller.connection.resume_writing()
    assert caller.sink.heard == ["pause", "resume"]
    caller.pass_time(100)
    caller.connection.send_body(bytes(1000))
    caller.connection.end_reply([])
    assert caller.connection.phase == HEAD


def test_a_reader_that_stalls_on_a_complete_reply_is_given_up_too() -> None:
    caller = OneCaller(timeouts=Timeouts(send_idle=Duration(10), keepalive=Duration(20)))
    caller.ask()
    caller.reply()
    caller.connection.pause_writing()
    caller.pass_time(12)
    assert caller.transport.fate == "aborted"


def test_the_next_request_waits_until_the_reply_before_it_is_read() -> None:
    caller = OneCaller()
    caller.ask(body=b"GET /second HTTP/1.1\r\nhost: a\r\n\r\n")
    caller.connection.pause_writing()
    caller.reply()
    assert [each.path for each in caller.begun] == [b"/"]
    caller.connection.resume_writing()
    assert [each.path for each in caller.begun] == [b"/", b"/second"]


def test_so_does_one_that_comes_after_the_reply_has_ended() -> None:
    caller = OneCaller()
    caller.ask()
    caller.connection.start_reply(200, [], 1000, bytes(10))
    caller.connection.pause_writing()
    caller.connection.send_body(bytes(990))
    caller.connection.end_reply([])
    for _ in range(3):
        if caller.transport.reading:
            caller.connection.data_received(b"GET /more HTTP/1.1\r\nhost: a\r\n\r\n")
    assert [each.path for each in caller.begun] == [b"/"]
    caller.connection.resume_writing()
    assert caller.transport.reading
    if len(caller.begun) == 1:
        caller.ask(start="GET /more HTTP/1.1")
    assert [each.path for each in caller.begun] == [b"/", b"/more"]


@pytest.mark.parametrize("answered", [False, True])
def test_the_body_of_a_request_may_end_while_its_reply_is_not_read(answered: bool) -> None:
    caller = OneCaller(timeouts=Timeouts(send_idle=Duration(10)))
    caller.ask("content-length: 10", start="POST / HTTP/1.1", body=b"hello")
    caller.connection.read_body(caller.sink)
    caller.connection.start_reply(200, [], 1000, bytes(1000 if answered else 10))
    if answered:
        caller.connection.end_reply([])
    caller.connection.pause_writing()
    caller.connection.data_received(b"world")
    caller.pass_time(12)
    assert caller.transport.fate == "aborted"


def test_an_idle_connection_can_be_told_to_go_and_a_busy_one_cannot() -> None:
    caller = OneCaller()
    caller.ask()
    assert not caller.connection.close_if_idle()
    caller.reply()
    assert caller.connection.close_if_idle()
    assert caller.transport.fate == "closed"
