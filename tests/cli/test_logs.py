"""`gatewayd logs`, against a control listener with a store of its own."""

from __future__ import annotations

import asyncio
import json
import re
import sys

import pytest

from gatewayd.cli import asking, main
from gatewayd.cli import logs as exported
from gatewayd.collect.api import Api
from gatewayd.config.model import Document, Gateway
from gatewayd.core.clock import FakeClock
from gatewayd.server.running import NotRunning
from tests.support.asking import served
from tests.support.calls import NOON, call, empty, fill, store_in

logs = sys.modules["gatewayd.cli.logs"]
assert logs is not exported  # the package has the command under this name


CALLS = [
    *(
        call(number, route="quotes", operation="/v1/quotes", consumer="acme", status=500 if number % 5 == 0 else 200)
        for number in range(1, 1205)
    ),
    call(1205, at=NOON + 86_400, code="route_not_found", status=404, host="api.example"),
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """A control address, and the store behind it."""
    folder = tmp_path_factory.mktemp("daemon")
    store = store_in(folder)
    fill(store, CALLS)
    api = Api(lambda: store, list, FakeClock(wall=NOON + 3600))
    with served(api, folder / "control.sock") as address:
        asyncio.run(api.apply(Document(gateway=Gateway(state_dir=str(folder)))))
        yield address, store
    store.close()


@pytest.fixture
def run(daemon, monkeypatch, capsys):
    """Runs `gatewayd logs` with these words: exit code, output, errors."""
    address, _ = daemon

    def command(*words, control=address):
        monkeypatch.setattr(sys, "argv", ["gatewayd", "logs", "--control", control, *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def numbers(out):
    return [json.loads(line)["number"] for line in out.splitlines()]


def test_the_latest_in_the_order_of_time(run):
    code, out, _ = run("--json", "--limit", "3")
    assert (code, numbers(out)) == (0, [1203, 1204, 1205])
    assert numbers(run("--json")[1]) == list(range(1156, 1206))


def test_several_pages(run):
    assert numbers(run("--json", "--limit", "1100")[1]) == list(range(106, 1206))
    assert numbers(run("--json", "--limit", "100000", "--oldest")[1]) == list(range(1, 1206))


def test_filters(run):
    assert numbers(run("--json", "--status", "5xx", "--to", "2027-01-15T12:00:20Z")[1]) == [5, 10, 15]
    assert numbers(run("--json", "--consumer", "acme", "--consumer", "zeta", "--limit", "1")[1]) == [1204]


def test_lines_for_people(run):
    code, out, _ = run("--limit", "2")
    heading, day, first, next_day, second = (line.rstrip() for line in out.splitlines())
    assert code == 0
    assert heading.split()[:5] == ["time", "st.", "call", "consumer", "ms"]
    assert (day, next_day) == ("2027-01-15 (UTC)", "2027-01-16 (UTC)")
    assert re.match(r"12:20:04\.000 200 GET /v1/quotes +acme +0\.0 ", first)
    assert re.match(r"12:00:00\.000 404 GET api\.example +- +0\.0 route_not_found ", second)


def test_no_calls(run):
    assert run("--text", "nothing") == (0, "", "no calls\n")
    assert run("--text", "nothing", "--json") == (0, "", "")


def test_all_about_a_call(run):
    code, out, _ = run("--request-id", "id-0007")
    assert code == 0
    assert re.search(r"^request_id +id-0007 *$", out, re.MULTILINE)
    assert run("--request-id", "id-9999") == (1, "", "gatewayd: no call of this id is kept\n")
    assert numbers(run("--request-id", "id-0007", "--json")[1]) == [7]
    assert run("--request-id", "id-0007", "--status", "5xx") == (0, "", "no calls\n")


def test_following_shows_each_call_once(run, daemon, monkeypatch):
    """Two come in while it waits, then the person has seen enough."""
    _, store = daemon
    coming = [[call(1206), call(1, chain="calls-1")], [call(1207)]]
    ask = asking.ask

    def asked(control, path, query=(), timeout=asking.TIMEOUT):
        if path == "/v1/logs/follow":
            if not coming:
                raise KeyboardInterrupt
            fill(store, coming.pop(0))
        return ask(control, path, query, timeout)

    monkeypatch.setattr(logs, "ask", asked)
    code, out, _ = run("-f", "--limit", "2", "--json")
    fill(empty(store), CALLS)
    assert (code, numbers(out)) == (0, [1204, 1205, 1, 1206, 1207])


def test_a_daemon_that_restarts_is_waited_for(monkeypatch):
    answers = [NotRunning("gone"), asking.Unavailable("too much"), {"calls": [], "position": "calls-0:7"}]
    asked, paused = [], []

    def ask(*arguments):
        asked.append(arguments)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(logs, "ask", ask)
    query = [("position", "calls-0:7")]
    assert logs._news("c", query, paused.append)["position"] == "calls-0:7"
    assert asked == [("c", "/v1/logs/follow", query)] * 3
    assert paused == [1.0, 1.0]
    answers += [NotRunning("gone")] * 60
    with pytest.raises(NotRunning):
        logs._news("c", query, paused.append)


@pytest.mark.parametrize(("kind", "begins"), [("parquet", b"PAR1"), ("csv", b"chain,number,at"), ("ndjson", b"{")])
def test_a_file(run, tmp_path, kind, begins):
    path = tmp_path / f"calls.{kind}"
    code, out, err = run("-o", str(path), "--status", "500")
    assert (code, out) == (0, "")
    assert err == f"{path}: {path.stat().st_size:,} bytes\n"
    assert path.read_bytes().startswith(begins)
    assert list(tmp_path.iterdir()) == [path]
    assert run("-o", str(tmp_path / "no" / path.name)) == (1, "", f"gatewayd: there is no folder {tmp_path / 'no'}\n")
    assert run("-o", str(path))[::2] == (1, f"gatewayd: {path} is there already\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-o", "calls.xls"], ".parquet, .csv, .ndjson"),
        (["-o", "a.csv", "-f"], "--follow does not go with --output"),
        (["-f", "--to", "1h"], "--to does not go with --follow"),
        (["--captured"], "--captured goes with --output"),
        (["--status", "6xx", "--from", "soon"], "--status is no status; found '6xx'"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_uses(run, words, text):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert text in err


def test_nobody_answers(run):
    code, out, err = run(control="127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("gatewayd: no daemon answers at 127.0.0.1:1")


def test_a_file_is_not_left_half(run, tmp_path):
    code, _, _ = run("-o", str(tmp_path / "calls.csv"), control="127.0.0.1:1")
    assert code == 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_collector(run):
    with served(Api(lambda: None, list)) as address:
        code, _, err = run(control=address)
    assert code == 1
    assert err == "gatewayd: no calls are collected: the collector is off, or has not started yet\n"
