from __future__ import annotations

import io

import pytest
from rich.console import Console

from gatewayd.cli import log_tables
from gatewayd.cli.log_tables import Lines, plain, print_call
from tests.support.calls import call

LONG = "/v1/customers/{customer}/claims/{claim}/documents/{document}/pages"


def made(number, **fields):
    return call(number, **fields) | {"at": f"2027-01-15T12:00:{number:02}.123456Z"}


def printed(*batches, width=80, terminal=True):
    file = io.StringIO()
    lines = Lines(Console(file=file, width=width, force_terminal=terminal, no_color=True, highlight=False))
    for batch in batches:
        lines.print(batch)
    return file.getvalue().replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_call_is_a_line(width):
    calls = [made(number, operation=LONG, consumer="c" * 60, code="x" * 60, request_id="f" * 32) for number in (1, 2)]
    lines = printed(calls, width=width)
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert lines[2].startswith("12:00:01.123 200 GET /v1/")
    assert ("f" * 32 in lines[2]) == (width >= 120)


def test_what_is_no_terminal_gets_everything():
    lines = printed([made(1, operation=LONG, consumer="c" * 30)], width=240, terminal=False)
    assert LONG in lines[2]
    assert "c" * 30 in lines[2]


def test_later_lines_stand_below_earlier_ones():
    first = [made(1, operation="/a", consumer="acme", code="rate_limited", total_us=1_234_567)]
    second = [made(2, operation="/a/much/longer/one", consumer="somebody", code="refused", total_us=90)]
    heading, day, *rows = printed(first, second, [])
    assert day == "2027-01-15 (UTC)"
    assert len(rows) == 2
    for column, values in {"consumer": ("acme", "somebody"), "why": ("rate_limited", "refused")}.items():
        assert {heading.index(column)} == {row.index(value) for row, value in zip(rows, values, strict=True)}
    assert " 1234.6 " in rows[0]


def test_each_new_day_is_said():
    calls = [made(1), made(2) | {"at": "2027-01-16T00:00:00.000000Z"}, made(3) | {"at": "2027-01-16T00:00:01.000000Z"}]
    assert [line[:10] for line in printed(calls)[1::2]] == ["2027-01-15", "2027-01-16", "00:00:01.0"]


def test_all_about_a_call(monkeypatch, capsys):
    captured = {"request": {"headers": [["x-a", "b"]], "body": "hello\x1b", "cut": False}}
    found = made(1, total_us=1500, bytes_in=2048, agent="a\x1b[31m", client=None, sampled=True, captured=captured)
    print_call(found)
    lines = capsys.readouterr().out.splitlines()
    facts = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines if line[:1].isalpha()}
    assert facts["total"] == "1.5ms"
    assert facts["bytes_in"] == "2.0K"
    assert facts["sampled"] == "True"
    assert facts["agent"] == r"a\x1b[31m"
    assert facts["erased"].split(", ")[0] == "client"
    assert not {"route", "captured", "client"} & set(facts)
    assert r'"body": "hello\u001b"' in "\n".join(lines)


def test_what_a_terminal_would_obey_is_written_out():
    assert plain("a\x1b[2J\nb\u202e ü") == r"a\x1b[2J\nb\u202e ü"
    assert plain("a\nb\r", lines=True) == "a\nb\\r"


def test_the_console_is_wide_where_nobody_looks(monkeypatch):
    monkeypatch.setattr(log_tables.sys, "stdout", io.StringIO())
    assert log_tables.console_for_output().width == 240
