"""Bodies at a pace: how fast, who is paused meanwhile, and that nothing is left behind."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.clock import FakeClock
from gatewayd.limits.pace import TICK, Pace, Paced
from tests.support.exchanges import make_exchange


class Timers:
    """A clock and what is due on it."""

    def __init__(self):
        self.clock = FakeClock(1_000.0)
        self.due = []

    def later(self, seconds, call):
        timer = Timer(self.clock.now + seconds, call, self)
        self.due.append(timer)
        return timer

    def run(self, until=math.inf, most=10_000):
        """Let time pass, timer by timer."""
        for _ in range(most):
            if not self.due or min(timer.at for timer in self.due) > until:
                break
            timer = min(self.due, key=lambda each: each.at)
            self.due.remove(timer)
            self.clock.now = max(self.clock.now, timer.at)
            timer.call()
        if until < math.inf:
            self.clock.now = until


class Timer:
    def __init__(self, at, call, timers):
        self.at, self.call, self.timers = at, call, timers

    def cancel(self):
        if self in self.timers.due:
            self.timers.due.remove(self)


class Connection:
    """The caller's side: what it is told, and when."""

    def __init__(self, clock):
        self.clock, self.kept = clock, None
        self.sent = []  # (second, bytes)
        self.said = []
        self.reading = True
        self.sink = None

    def inform(self, status, headers):
        self.said.append(("inform", status))

    def start_reply(self, status, headers, length, first=b""):
        self.said.append(("start", status, length))
        self.sent.append((self.clock.now, first))

    def reply(self, status, headers, length, body):
        self.said.append(("reply", status, length))
        self.sent.append((self.clock.now, body))

    def send_body(self, data):
        assert data
        self.sent.append((self.clock.now, data))

    def end_reply(self, trailers):
        self.said.append(("end", trailers))

    def abort(self):
        self.said.append(("abort",))
        self.sink.caller_gone()

    def upgrade(self, headers, protocol):
        return "transport", protocol

    def read_body(self, sink):
        self.sink = sink

    def pause_body(self):
        self.reading = False

    def resume_body(self):
        self.reading = True

    def tunnel_closed(self):
        self.said.append(("tunnel closed",))

    @property
    def body(self):
        return b"".join(data for _, data in self.sent)


class Sink:
    """The handler's side."""

    def __init__(self):
        self.deadline = 7.0
        self.heard = []
        self.paused = False

    def __getattr__(self, name):
        if name in ("expire", "body", "body_end", "caller_gone"):
            return lambda *arguments: self.heard.append((name, *arguments))
        raise AttributeError(name)

    def pause_reply(self):
        assert not self.paused
        self.paused = True

    def resume_reply(self):
        assert self.paused
        self.paused = False


def paced(request=0.0, reply=0.0, burst=1_000, method=b"GET", sink=True):
    timers = Timers()
    connection = Connection(timers.clock)
    exchange = make_exchange(downstream=connection, method=method)
    paces = [Pace(rate, burst) if rate else None for rate in (request, reply)]
    each = Paced(exchange, *paces, timers.clock.monotonic, timers.later)
    assert exchange.downstream is each
    found = Sink() if sink else None
    if found is not None:
        each.read_body(found)
        assert connection.sink is each
    return each, connection, found, timers


# -- the reply --------------------------------------------------------------------------------------------------------


def test_what_fits_into_the_burst_goes_as_if_nothing_stood_in_between():
    each, connection, sink, timers = paced(reply=1_000)
    each.inform(103, [])
    each.start_reply(200, [], 900, b"a" * 400)
    each.send_body(b"b" * 500)
    each.end_reply([(b"x", b"y")])
    assert connection.said == [("inform", 103), ("start", 200, 900), ("end", [(b"x", b"y")])]
    assert connection.body == b"a" * 400 + b"b" * 500
    assert not sink.paused
    assert not timers.due


def test_a_whole_reply_that_fits_goes_as_a_whole():
    each, connection, _, _ = paced(reply=1_000)
    each.reply(200, [], 1_000, b"a" * 1_000)
    assert connection.said == [("reply", 200, 1_000)]


def test_a_whole_reply_that_does_not_is_paced_too():
    each, connection, _, timers = paced(reply=1_000, sink=False)
    each.reply(200, [], 3_000, b"a" * 3_000)
    assert connection.body == b"a" * 1_000
    timers.run()
    assert connection.body == b"a" * 3_000
    assert connection.said == [("start", 200, 3_000), ("end", [])]
    assert timers.clock.now == pytest.approx(1_002.0)


def test_more_is_held_and_its_bringer_paused_until_it_is_gone():
    each, connection, sink, timers = paced(reply=1_000)
    each.start_reply(200, [], 5_000, b"a" * 1_500)
    assert connection.body == b"a" * 1_000
    assert sink.paused
    timers.run(until=1_000.45)
    assert len(connection.body) == 1_400
    assert sink.paused
    timers.run(until=1_000.6)
    assert len(connection.body) == 1_500
    assert not sink.paused
    each.send_body(b"b" * 100)
    assert sink.paused
    each.end_reply([])
    timers.run()
    assert connection.body == b"a" * 1_500 + b"b" * 100
    assert connection.said[-1] == ("end", [])
    assert not timers.due


@given(
    st.integers(500, 5_000),
    st.integers(1, 2_000),
    st.lists(st.tuples(st.floats(0, 2), st.binary(min_size=1, max_size=3_000)), min_size=1, max_size=8),
)
def test_never_faster_than_the_pace_nor_much_slower_and_nothing_is_lost(rate, burst, pieces):
    each, connection, sink, timers = paced(reply=rate, burst=burst)
    each.start_reply(200, [], -1)
    for wait, piece in pieces:
        timers.run(until=timers.clock.now + wait)
        if sink.paused:
            timers.run()
        each.send_body(piece)
    each.end_reply([])
    timers.run()
    assert connection.body == b"".join(piece for _, piece in pieces)
    assert connection.said[-1] == ("end", [])
    most = max(burst, math.ceil(rate * TICK))
    sent = [(at, len(data)) for at, data in connection.sent if data]
    for first in range(len(sent)):
        total = 0
        for at, count in sent[first:]:
            total += count
            assert total <= most + (at - sent[first][0]) * rate + 2
    allowed = sum(wait for wait, _ in pieces) + len(connection.body) / rate
    assert timers.clock.now - 1_000 <= allowed + 0.002 * len(sent)


def test_a_slow_caller_and_the_pace_pause_once_and_both_must_be_over():
    each, connection, sink, timers = paced(reply=1_000)
    each.start_reply(200, [], -1, b"a" * 1_200)
    each.pause_reply()
    assert sink.paused
    timers.run(until=1_010)
    assert len(connection.body) == 1_000, "nothing is sent to who does not read"
    each.resume_reply()
    timers.run(until=1_011)
    assert len(connection.body) == 1_200
    assert not sink.paused
    each.pause_reply()
    assert sink.paused
    each.resume_reply()
    assert not sink.paused


def test_a_head_and_a_reply_without_a_body_cost_nothing():
    each, connection, _, timers = paced(reply=1_000, method=b"HEAD")
    each.reply(200, [], 50_000, b"a" * 50_000)
    assert connection.said == [("reply", 200, 50_000)]
    each, connection, _, timers = paced(reply=1_000)
    each.start_reply(304, [], 50_000, b"a" * 50_000)
    each.end_reply([])
    assert connection.said[-1] == ("end", [])
    assert not timers.due


def test_a_connection_keeps_its_pace_from_exchange_to_exchange():
    timers = Timers()
    connection, pace = Connection(timers.clock), Pace(1_000, 1_000)
    for _ in range(3):
        exchange = make_exchange(downstream=connection)
        Paced(exchange, None, pace, timers.clock.monotonic, timers.later).reply(200, [], 900, b"a" * 900)
        timers.run()
    assert timers.clock.now == pytest.approx(1_000 + (3 * 900 - 1_000) / 1_000, abs=0.01)


@pytest.mark.parametrize("end", ["stop", "caller_gone", "abort"])
def test_at_the_end_nothing_waits_and_nothing_is_sent_any_more(end):
    each, connection, sink, timers = paced(request=1_000, reply=1_000)
    each.start_reply(200, [], -1, b"a" * 5_000)
    each.body(b"b" * 5_000)
    assert len(timers.due) == 2
    getattr(each, end)()
    assert not timers.due
    assert len(connection.body) == 1_000
    assert (("caller_gone",) in sink.heard) == (end != "stop")
    each.body(b"c" * 5_000)
    assert not timers.due


# -- the request ------------------------------------------------------------------------------------------------------


def test_a_request_is_handed_on_at_once_and_read_on_when_its_time_has_passed():
    each, connection, sink, timers = paced(request=1_000)
    each.body(b"a" * 600)
    assert connection.reading
    each.body(b"b" * 2_400)
    assert sink.heard == [("body", b"a" * 600), ("body", b"b" * 2_400)]
    assert not connection.reading
    timers.run(until=1_002.0)
    assert not connection.reading
    timers.run(until=1_002.2)
    assert connection.reading
    each.body_end([])
    assert sink.heard[-1] == ("body_end", [])


def test_a_slow_target_and_the_pace_must_both_be_over_before_it_is_read_on():
    each, connection, _, timers = paced(request=1_000)
    each.pause_body()
    assert not connection.reading
    each.body(b"a" * 2_000)
    each.resume_body()
    assert not connection.reading
    each.pause_body()
    timers.run()
    assert not connection.reading
    each.resume_body()
    assert connection.reading


# -- what passes ------------------------------------------------------------------------------------------------------


def test_a_way_without_a_limit_is_not_touched():
    each, connection, _, timers = paced(request=1_000)
    each.start_reply(200, [], -1, b"a" * 100_000)
    each.send_body(b"b" * 100_000)
    assert len(connection.body) == 200_000
    each, connection, _, timers = paced(reply=1_000)
    each.body(b"c" * 100_000)
    assert connection.reading
    assert not timers.due


def test_deadlines_are_the_handler_s():
    each, _, sink, _ = paced(reply=1_000)
    assert each.deadline == 7.0
    each.deadline = 9.0
    each.expire(3.0)
    assert (sink.deadline, sink.heard) == (9.0, [("expire", 3.0)])
    assert paced(reply=1_000, sink=False)[0].deadline == math.inf


def test_tunnels_are_not_paced():
    each, connection, _, _ = paced(request=1_000, reply=1_000)
    assert each.upgrade([], b"websocket") == ("transport", b"websocket")
    tunnel = Sink()
    each.read_body(tunnel)
    assert connection.sink is tunnel
    each.tunnel_closed()
    assert connection.said == [("tunnel closed",)]
    each.kept = {"a": 1}
    assert connection.kept == each.kept == {"a": 1}
