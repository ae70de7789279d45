"""The daemon's log: a record is a line, whatever is in it."""

from __future__ import annotations

import io
import logging
import re

import pytest

from gatewayd.server.log import OneLine, set_up


def lines_of(who, *records):
    out = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up(who, out)
        for record in records:
            record(logging.getLogger("test"))
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    return out.getvalue().splitlines()


def test_a_line():
    (line,) = lines_of("worker 3", lambda log: log.warning("out of %s", "luck"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING worker 3 out of luck", line)


def test_debugging_is_off():
    assert lines_of("x", lambda log: log.debug("noise")) == []


@pytest.mark.parametrize("forged", ["a\n2026-01-01 ERROR b", "a\r\nb", "a\x1b[2Jb", "a\x00b"])
def test_nobody_forges_a_line(forged):
    (line,) = lines_of("x", lambda log: log.info("from %s", forged))
    assert line.isprintable()


def test_a_traceback_stays_on_its_line():
    def fail(log):
        try:
            raise ValueError("no good")
        except ValueError:
            log.exception("failed")

    (line,) = lines_of("x", fail)
    assert "failed | Traceback (most recent call last): |" in line
    assert line.endswith("ValueError: no good")


def test_times_are_utc():
    record = logging.makeLogRecord({"msg": "hello", "created": 0.25, "msecs": 250.0})
    assert OneLine("x").format(record).startswith("1970-01-01T00:00:00.250Z ")
