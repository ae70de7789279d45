"""`gatewayd top` with a daemon that says what a test wants it to. A real one is in tests/process."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner

from gatewayd.cli.commands import cli
from gatewayd.cli.rates import SORTS
from gatewayd.cli.top import _SORTS, Watch
from gatewayd.errors import GatewaydError
from gatewayd.server import running
from tests.cli.overviews import overview, route

MEASURES = {
    "calls": 120,
    "per_second": 2.0,
    "p50_us": 1500,
    "p99_us": 20_000,
    "upstream_mean_us": 1000,
    "client_errors": 60,
    "errors": 6,
    "bytes_in": 600,
    "bytes_out": 6000,
}


class Daemon:
    """Answers what it is asked, in turn."""

    def __init__(self, *looks, stats=(503, {"error": "calls are not recorded"})):
        self.looks = [msgspec.to_builtins(each) for each in looks]
        self.stats = stats
        self.asked = []

    def ask(self, control, method, path, timeout, body=None):
        self.asked.append((control, method, path.partition("?")[0]))
        if path.startswith("/v1/stats?"):
            return self.stats
        if not self.looks:
            return 503, {"error": "the supervisor does not answer"}
        return 200, self.looks.pop(0)


@pytest.fixture
def daemon(monkeypatch):
    made = Daemon(overview(100, routes={"quotes": route(100)}), overview(110, routes={"quotes": route(150)}))
    monkeypatch.setattr(running, "ask", made.ask)
    return made


def run(*words):
    return CliRunner().invoke(cli, ["top", "--control", "127.0.0.1:1", "--interval", "0.1", *words])


def test_one_look_is_printed_with_what_happened_during_it(daemon):
    done = run("--once")
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("quotes")]
    assert line.split()[1] == "5.0"
    assert "calls are not recorded" in done.output
    assert daemon.asked[:2] == [("127.0.0.1:1", "GET", "/v1/top")] * 2


def test_or_as_json(daemon):
    found = json.loads(run("--once", "--json").output)
    assert (found["routes"][0]["name"], found["routes"][0]["rps"], found["seconds"]) == ("quotes", 5.0, 10.0)


def test_consumers_as_the_call_log_has_them(daemon):
    daemon.stats = 200, {"rows": [{"key": "acme", "measures": MEASURES}], "total": MEASURES}
    done = run("--once")
    line = next(line for line in done.output.splitlines() if "acme" in line)
    assert line[line.index("acme") :].split() == ["acme", "2.0", "1.5ms", "20.0ms", "1.0", "0.1", "110"]


@pytest.mark.parametrize("stats", [(200, {"rows": [{"key": "acme"}]}), (200, []), (500, {"error": "broken"})])
def test_a_call_log_that_says_something_else_hides_nothing_else(daemon, stats):
    daemon.stats = stats
    done = run("--once")
    assert done.exit_code == 0
    assert "quotes" in done.output


def test_a_daemon_that_does_not_answer_is_an_error(daemon):
    daemon.looks.pop()
    done = run("--once")
    assert isinstance(done.exception, GatewaydError)
    assert str(done.exception) == "the supervisor does not answer"


@pytest.mark.parametrize("words", [(), ("--json",), ("--once", "--sort", "colour"), ("--once", "--interval", "0")])
def test_what_makes_no_sense_is_refused(daemon, words):
    assert run(*words).exit_code == 2
    assert daemon.asked == []


def test_all_there_is_to_order_by_can_be_said():
    assert _SORTS == SORTS


def test_s_orders_by_the_next_and_begins_again():
    watch = Watch("127.0.0.1:1", 1.0, "rps")
    seen = []
    for _ in range(7):
        seen.append(watch.sort)
        watch.turn()
    assert seen == ["rps", "p99", "p50", "errors", "bytes", "name", "rps"]
