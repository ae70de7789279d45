"""`gatewayd stats`, against a control listener with a store of its own."""

from __future__ import annotations

import json
import sys

import pytest

from gatewayd.cli import main
from gatewayd.collect.api import Api
from gatewayd.core.clock import FakeClock
from tests.support.asking import served
from tests.support.calls import NOON, call, fill, store_in


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("daemon"))
    rows = [call(number, at=NOON - 60 * number, route="quotes", total_us=1000) for number in range(1, 91)]
    rows += [call(number, at=NOON - number, route="claims", consumer="acme", status=500) for number in range(101, 111)]
    fill(store, rows)
    with served(Api(lambda: store, list, FakeClock(wall=NOON))) as address:
        yield address
    store.close()


@pytest.fixture
def run(address, monkeypatch, capsys):
    """Runs `gatewayd stats` with these words: exit code, output, errors."""

    def command(*words):
        first, *rest = words or ("",)
        monkeypatch.setattr(
            sys, "argv", ["gatewayd", "stats", *([first, "--control", address] if first else []), *rest]
        )
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def test_the_first_routes(run):
    code, out, _ = run("top")
    title, heading, *rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert " ".join(title) == "2027-01-15 11:00 to 12:00 UTC (1h), by calls"
    assert heading[:4] == ["route", "calls", "/s", "5xx"]
    assert [row[:2] for row in rows] == [["quotes", "60"], ["claims", "10"], ["all", "70"]]


def test_other_keys_and_orders(run):
    found = json.loads(run("top", "status", "--order", "errors", "--limit", "1", "--json", "--from", "2h")[1])
    assert [row["key"] for row in found["rows"]] == ["500"]
    assert (found["total"]["calls"], found["period"]["seconds"]) == (100, 7200)
    found = json.loads(run("top", "all", "--exact", "--json", "--consumer", "acme")[1])
    assert (found["by"], found["rows"], found["total"]["calls"]) == (None, [], 10)


def test_how_it_went(run):
    code, out, _ = run("series", "--from", "30m", "--step", "15m")
    assert code == 0
    _, heading, first, second = out.splitlines()
    assert heading.split() == ["time", "calls", "5xx", "p50", "p90", "p99"]
    assert first.split()[:5] == ["2027-01-15", "11:30", "15", "0%", "1.0ms"]
    assert second.split()[:4] == ["2027-01-15", "11:45", "25", "40%"]
    assert second.count("█") > first.count("█") > 0
    assert json.loads(run("series", "--json", "--from", "1h", "--exact")[1])["period"]["source"] == "calls"


def test_what_changed(run):
    code, out, _ = run("compare", "--from", "30m")
    assert code == 0
    _, against, _, first, _, everything = out.splitlines()
    assert against == "against 2027-01-15 11:00 to 11:30 UTC (30m)".ljust(len(against))
    assert first.split()[:5] == ["claims", "10", "0", "new", "100%"]
    assert everything.split()[:4] == ["all", "40", "30", "+33%"]
    found = json.loads(run("compare", "--json", "--against", "day")[1])
    assert found["then"]["to"] == "2027-01-14T12:00:00Z"
    found = json.loads(run("compare", "--json", "--against-from", "3h", "--against-to", "2h")[1])
    assert found["then"]["from"] == "2027-01-15T09:00:00Z"


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["top", "rout", "--order", "best"], ["DIMENSION is no choice", "did you mean route?", "--order is no choice"]),
        (["series", "--step", "2m"], ["--step is no choice; found '2m'"]),
        (["compare", "--against", "month"], ["--against is no choice"]),
        (["compare", "--against-from", "3h"], ["--against-to and `against_from`"]),
    ],
)
def test_wrong_uses(run, words, texts):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert all(text in err for text in texts)


def test_what_there_is(run):
    code, out, err = run()
    assert code == 2
    assert all(name in out + err for name in ("top", "series", "compare"))
