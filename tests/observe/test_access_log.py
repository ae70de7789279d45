from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import model
from gatewayd.config.units import Duration, Size
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Route
from gatewayd.errors import ConfigError
from gatewayd.observe import access_log, metrics
from gatewayd.observe.access_log import BACKLOG, AccessLog, faults
from gatewayd.observe.metrics import WorkerMetrics, read


class Desk:
    """An access log with what it needs."""

    def __init__(self, path: str, buffer: int = 64 * 1024, flush_interval: float = 1) -> None:
        self.clock = FakeClock(now=1000.0, wall=1_800_000_000.0)
        self.memory = memoryview(bytearray(metrics.size_bytes(1)))
        config = model.AccessLog(path=path, buffer=Size(buffer), flush_interval=Duration(flush_interval))
        self.log = AccessLog(config, self.clock, WorkerMetrics(self.memory, 0))

    def write(self, exchange: Exchange) -> None:
        self.log.write(exchange, self.clock.now)

    def tick(self, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        self.log.tick(self.clock.now)

    def cell(self, counter: int) -> int:
        return read(self.memory, {}, [0]).sum(counter)


def exchange(**what: Any) -> Exchange:
    made = Exchange()
    made.started = 999.9375
    made.status = 200
    made.request_id = b"0123456789abcdef"
    made.client = "203.0.113.7"
    made.method = b"GET"
    made.host = b"api.example"
    made.path = b"/v1/quotes/7"
    for name, value in what.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def desk(path: Path) -> Desk:
    return Desk(str(path))


def logged(desk: Desk, path: Path) -> list[dict[str, Any]]:
    desk.log.flush()
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_refusal_before_any_route(desk: Desk, path: Path) -> None:
    desk.write(exchange(status=404, code="route_not_found", http_version=b"1.0", body_sent=120))
    assert logged(desk, path) == [
        {
            "time": "2027-01-15T08:00:00.000Z",
            "request_id": "0123456789abcdef",
            "client": "203.0.113.7",
            "method": "GET",
            "host": "api.example",
            "path": "/v1/quotes/7",
            "status": 404,
            "duration_ms": 62.5,
            "bytes_in": 0,
            "bytes_out": 120,
            "http_version": "1.0",
            "code": "route_not_found",
        }
    ]


def test_a_proxied_exchange(desk: Desk, path: Path) -> None:
    route = Route("quotes", lambda exchange: None)
    route.service = "quoting"
    done = exchange(
        route=route,
        status=504,
        reason="first_byte_timeout",
        code="first_byte_timeout",
        target="10.0.0.7:9000",
        attempts=2,
        upstream_seconds=0.0105,
        body_received=7,
        headers=[(b"accept", b"*/*"), (b"user-agent", b"curl/8"), (b"user-agent", b"second")],
        tls=SimpleNamespace(version="TLSv1.3"),
        verdicts=[("partner-ips", "observed"), ("cors", "failed")],
    )
    desk.write(done)
    (line,) = logged(desk, path)
    wanted = {
        "route": "quotes",
        "service": "quoting",
        "target": "10.0.0.7:9000",
        "attempts": 2,
        "upstream_ms": 10.5,
        "reason": "first_byte_timeout",
        "bytes_in": 7,
        "user_agent": "curl/8",
        "tls": "TLSv1.3",
        "http_version": "1.1",
        "verdicts": {"partner-ips": "observed", "cors": "failed"},
    }
    assert {name: line.get(name) for name in wanted} == wanted


def test_the_query_and_other_headers_are_not_logged(desk: Desk, path: Path) -> None:
    secret = [(b"authorization", b"Bearer hush"), (b"cookie", b"id=hush"), (b"x-api-key", b"hush")]
    desk.write(exchange(query=b"token=hush", headers=secret))
    desk.log.flush()
    assert b"hush" not in path.read_bytes()


def test_the_time_is_when_the_exchange_was_over(desk: Desk, path: Path) -> None:
    for step in (0.0, 0.0014, 0.9976, 0.002, 86400.0):
        desk.clock.advance(step)
        desk.write(exchange())
    assert [line["time"] for line in logged(desk, path)] == [
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T08:00:00.001Z",
        "2027-01-15T08:00:00.999Z",
        "2027-01-15T08:00:01.001Z",
        "2027-01-16T08:00:01.001Z",
    ]


def test_a_wall_clock_that_was_set_is_followed_at_the_next_tick(desk: Desk, path: Path) -> None:
    desk.write(exchange())
    desk.clock.wall_now -= 3600
    desk.tick(1)
    desk.write(exchange())
    assert [line["time"][11:19] for line in logged(desk, path)] == ["08:00:00", "07:00:01"]


def test_long_user_agents_are_cut(desk: Desk, path: Path) -> None:
    desk.write(exchange(headers=[(b"user-agent", b"x" * 10_000)]))
    desk.write(exchange(headers=[(b"user-agent", b"x" * 511 + "é".encode())]))
    first, second = logged(desk, path)
    assert first["user_agent"] == "x" * 512
    assert second["user_agent"] == "x" * 511 + "\\xc3"


ODD = [
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b"\0",
    b"\x1f",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", ["path", "host", "method", "request_id", "http_version", "user_agent"])
def test_odd_bytes_make_whole_lines_of_json(desk: Desk, path: Path, field: str, odd: bytes) -> None:
    value = b"a" + odd + b"b"
    what = {"headers": [(b"user-agent", value)]} if field == "user_agent" else {field: value}
    desk.write(exchange(**what))
    desk.write(exchange())
    odd_line, next_line = logged(desk, path)
    assert odd_line[field] == value.decode("utf-8", "backslashreplace")
    assert next_line["path"] == "/v1/quotes/7"


anything = st.binary(max_size=40)
words = st.text(max_size=20)
exchanges = st.builds(
    exchange,
    method=anything,
    host=anything,
    path=anything,
    request_id=anything,
    http_version=anything,
    headers=st.lists(st.tuples(st.sampled_from([b"user-agent", b"accept"]), anything), max_size=4),
    client=words,
    target=words,
    code=words,
    reason=words,
    status=st.integers(0, 999),
    attempts=st.integers(0, 9),
    upstream_seconds=st.floats(0, 1e6),
    started=st.floats(0, 1000),
    body_received=st.integers(0, 2**62),
    body_sent=st.integers(0, 2**62),
    verdicts=st.none() | st.lists(st.tuples(words, words), max_size=3),
)


@given(st.lists(exchanges, max_size=5))
def test_every_line_is_json_whatever_the_caller_sends(made: list[Exchange]) -> None:
    desk = Desk("/dev/null", buffer=1 << 20)
    for each in made:
        desk.write(each)
    lines = bytes(desk.log._buffer).splitlines()
    assert len(lines) == len(made)
    for line, each in zip(lines, made, strict=True):
        found = json.loads(line)
        assert found["path"] == each.path.decode("utf-8", "backslashreplace")
        assert found["bytes_out"] == each.body_sent
        assert datetime.datetime.fromisoformat(found["time"]).year == 2027


# -- when it is written ---------------------------------------------------------------------------------------


def test_lines_are_written_when_the_buffer_is_full(path: Path) -> None:
    desk = Desk(str(path), buffer=1000)
    desk.write(exchange())
    assert path.read_bytes() == b""
    for _ in range(10):
        desk.write(exchange())
    assert path.read_bytes().count(b"\n") >= 5
    assert path.read_bytes().endswith(b"}\n")


def test_lines_are_written_by_the_tick_when_they_are_due(desk: Desk, path: Path) -> None:
    desk.tick()
    desk.write(exchange())
    desk.tick(0.9)
    assert path.read_bytes() == b""
    desk.tick(0.2)
    assert path.read_bytes().count(b"\n") == 1


def test_closing_writes_the_rest(desk: Desk, path: Path) -> None:
    desk.write(exchange())
    desk.log.close()
    assert path.read_bytes().count(b"\n") == 1


def test_a_log_that_was_moved_away_is_opened_anew(desk: Desk, path: Path) -> None:
    desk.write(exchange(path=b"/before"))
    moved = path.rename(path.with_suffix(".1"))
    desk.write(exchange(path=b"/still-before"))
    desk.log.reopen()
    desk.write(exchange(path=b"/after"))
    desk.log.flush()
    assert [orjson.loads(line)["path"] for line in moved.read_bytes().splitlines()] == [
        "/before",
        "/still-before",
    ]
    assert [orjson.loads(line)["path"] for line in path.read_bytes().splitlines()] == ["/after"]


def test_opening_anew_lets_go_of_the_old_file(desk: Desk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        desk.log.reopen()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_log_that_cannot_be_opened_anew_goes_on_in_the_old_file(
    desk: Desk, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = path.rename(path.with_suffix(".1"))
    path.mkdir()
    desk.log.reopen()
    desk.write(exchange())
    desk.log.flush()
    assert moved.read_bytes().count(b"\n") == 1
    assert "cannot be opened anew: Is a directory" in caplog.text


# -- when it cannot be written --------------------------------------------------------------------------------


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Desk, int]]:
    """A log to a pipe on stdout that nobody reads, and the pipe's other end."""
    reader, writer = os.pipe()
    saved = os.dup(1)
    os.dup2(writer, 1)
    try:
        desk = Desk("stdout", buffer=16 * 1024)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(writer)
    yield desk, reader
    with contextlib.suppress(OSError):
        os.close(reader)


def test_a_stalled_reader_costs_lines_not_time_or_memory(
    stalled: tuple[Desk, int], caplog: pytest.LogCaptureFixture
) -> None:
    desk, reader = stalled
    sent = 0
    one = exchange(path=b"/" + b"x" * 2000)
    while desk.cell(metrics.LOG_LINES_DROPPED) == 0:
        desk.write(one)
        sent += 1
    for _ in range(1000):
        desk.write(one)
    sent += 1000
    assert len(desk.log._buffer) <= BACKLOG + 2 * 16 * 1024
    desk.tick(90)
    assert desk.cell(metrics.LOG_PENDING_BYTES) == len(desk.log._buffer) > BACKLOG - 16 * 1024
    assert desk.cell(metrics.LOG_LAG_MILLISECONDS) == 90_000
    assert caplog.text.count("the reader is too slow") == 1
    received = b""
    os.set_blocking(reader, False)
    while desk.log._buffer:  # the reader is back
        with contextlib.suppress(BlockingIOError):
            received += os.read(reader, 1 << 20)
        desk.tick(1)
    received += os.read(reader, 1 << 20)
    lines = [json.loads(line) for line in received.splitlines()]
    assert len(lines) + desk.cell(metrics.LOG_LINES_DROPPED) == sent
    assert desk.cell(metrics.LOG_PENDING_BYTES) == desk.cell(metrics.LOG_LAG_MILLISECONDS) == 0


def test_what_a_stalled_reader_did_not_take_is_counted_at_the_end(stalled: tuple[Desk, int]) -> None:
    desk, _ = stalled
    for _ in range(500):
        desk.write(exchange())
    pending = desk.log._buffer.count(b"\n")
    assert pending
    desk.log.close()
    assert desk.cell(metrics.LOG_LINES_DROPPED) == pending


def test_a_full_disk_is_told_once_a_minute_and_got_over(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not stat.S_ISCHR(os.stat("/dev/full").st_mode):
        pytest.skip("there is no /dev/full")
    caplog.set_level(logging.WARNING)
    desk = Desk("/dev/full", buffer=1000)
    for _ in range(100):
        desk.write(exchange())
    assert [record.message for record in caplog.records] == [
        "access log /dev/full: No space left on device; 0 lines dropped so far"
    ]
    desk.tick(59)
    assert len(caplog.records) == 1
    desk.tick(1)
    assert len(caplog.records) == 2
    sink = access_log.open_sink(str(path))
    monkeypatch.setattr(desk.log, "_sink", sink)
    desk.tick(1)
    assert path.read_bytes().count(b"\n") == 100
    assert caplog.records[-1].message == "access log /dev/full is written again; 0 lines dropped so far"
    assert desk.cell(metrics.LOG_LINES_DROPPED) == 0


# -- faults ---------------------------------------------------------------------------------------------------


def test_a_log_that_cannot_be_opened_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Desk(str(tmp_path))
    assert [fault.path for fault in caught.value.faults] == ["access_log.path"]


def test_faults_are_found_without_making_a_file(tmp_path: Path) -> None:
    sealed = tmp_path / "sealed.log"
    sealed.write_bytes(b"")
    cases = {
        "stdout": 0,
        "stderr": 0,
        str(tmp_path / "new.log"): 0,
        str(sealed): 0,
        str(tmp_path): 1,
        str(tmp_path / "none" / "new.log"): 1,
    }
    for place, count in cases.items():
        assert len(faults(model.AccessLog(path=place))) == count
    assert not faults(model.AccessLog(path=str(tmp_path), enabled=False))
    assert os.listdir(tmp_path) == ["sealed.log"]


def test_what_the_user_may_not_write_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = tmp_path / "sealed.log"
    sealed.write_bytes(b"")
    monkeypatch.setattr(access_log.os, "access", lambda place, mode: False)
    assert "it cannot be written" in faults(model.AccessLog(path=str(sealed)))[0].message
    assert "directory cannot be written" in faults(model.AccessLog(path=str(tmp_path / "new.log")))[0].message
