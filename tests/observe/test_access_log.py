"""What a line says, and when it is written."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Route
from tests.observe.desk import Desk, exchange


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


def test_who_called(desk: Desk, path: Path) -> None:
    desk.write(exchange(identity=Identity(Consumer("acme"), "api_key", "key-7"), route=Route("quotes", lambda _: None)))
    desk.log.flush()
    (line,) = map(orjson.loads, path.read_bytes().splitlines())
    assert (line["consumer"], line["credential"]) == ("acme", "key-7")


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
