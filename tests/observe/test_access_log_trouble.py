"""When the log cannot be written, now or at all."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from gatewayd.config import model
from gatewayd.errors import ConfigError
from gatewayd.observe import access_log, metrics
from gatewayd.observe.access_log import BACKLOG, faults
from tests.observe.desk import Desk, exchange


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


def test_a_stalled_reader_is_not_tried_again_with_every_line(stalled: tuple[Desk, int]) -> None:
    desk, _ = stalled
    tries: list[int] = []

    class Counting:
        def write(self, lines: bytearray) -> int:
            tries.append(len(lines))
            return 0

        def close(self) -> None:
            pass

    desk.log._sink.close()
    desk.log._sink = Counting()
    for _ in range(1000):
        desk.write(exchange())
    assert 5 < len(tries) < 20
    assert all(later - earlier >= 16 * 1024 for earlier, later in pairwise(tries))


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
