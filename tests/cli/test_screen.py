"""The screen of `gatewayd top`: everything of it fits, whatever there is to show."""

from __future__ import annotations

import pytest
from rich.console import Console

from gatewayd.cli.rates import Row, frame
from gatewayd.cli.screen import Consumers, allot, draw, duration, number, size
from tests.cli.overviews import overview, route, target, verdict

NOT_KNOWN = Consumers((), "calls are not recorded")


def lines(found, width=80, height=24, consumers=NOT_KNOWN):
    """As a terminal of that size has them."""
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(draw(found, consumers, "rps", width, height))
    return captured.get().splitlines()


def busy(routes=40):
    """A daemon with a lot to show."""
    before = overview(100)
    now = overview(
        110,
        routes={f"route-{number:02}": route(1000 - number, server=number % 3) for number in range(routes)},
        verdicts=[verdict(5, policy=f"policy-{number}") for number in range(30)],
        refusals={"rate_limit_exceeded": 7, "route_not_found": 3},
        targets=[target(f"10.0.0.{number}:8080") for number in range(30)] + [target("bad:80", available=0)],
    )
    return frame(now, before)


CALLERS = Consumers([Row(f"caller-{number}", 9.0, 0.01, 0.02, 0.005, 0, 0, 10, 2000) for number in range(30)])


@pytest.mark.parametrize("size", [(80, 24), (80, 60), (100, 30), (120, 40), (149, 24), (150, 24), (160, 50), (250, 70)])
@pytest.mark.parametrize("consumers", [NOT_KNOWN, CALLERS])
def test_it_fits_on_the_terminal_and_uses_it(size, consumers):
    width, height = size
    shown = lines(busy(), width, height, consumers)
    assert height - 2 <= len(shown) <= height
    assert all(len(line.rstrip()) <= width for line in shown)
    text = "\n".join(shown)
    for word in ("gatewayd 1.2.3", "req/s", "route-00", "policy-0 refused", "rate_limit_exceeded", "bad:80", "0/2"):
        assert word in text
    assert ("caller-0" in text) == bool(consumers.rows)


def test_what_is_left_out_is_said():
    text = "\n".join(lines(busy()))
    assert "of 40)" in text
    assert "of 31)" in text


def test_a_small_terminal_shows_a_row_of_each():
    shown = lines(busy(), 80, 14)
    assert len(shown) == 14
    assert {"route-00", "bad:80"} <= {word for line in shown for word in line.split()}


def test_all_of_it_where_nobody_scrolls():
    text = "\n".join(lines(busy(), 160, 0, CALLERS))
    assert all(f"route-{number:02}" in text for number in range(40))
    assert "caller-29" in text
    assert "10.0.0.29:8080" in text
    assert " of " not in text


def test_nothing_happened_yet():
    text = "\n".join(lines(frame(overview(), None)))
    for said in (
        "no traffic yet",
        "calls are not recorded",
        "none yet",
        "none",
        "0 req/s",
        "audit lag -",
    ):
        assert said in text


def test_the_header_says_how_it_is():
    (first, second, *_) = lines(frame(overview(7200, routes={"a": route(72, server=0)}), None))
    assert first.startswith("gatewayd 1.2.3  generation 4  serving  workers 2/2  up 2h  ")
    assert second.split("  ")[:4] == ["<0.1 req/s", "busy 7", "conns 1,234", "5xx 0.0%"]
    slow = {"state": "starting", "ready": False, "serving": 1, "restarts": 3, "audit_lag": 0.25}
    told = overview(routes={"a": route(50, server=50)}, **slow)
    (first, second, third, *_) = lines(frame(told, None), 120)
    assert "starting, not ready  workers 1/2 (3 restarts)" in first
    assert "5xx 50.0%" in second
    assert "audit lag 250ms" in second
    assert third.strip() == ""


def test_trouble_with_records_has_a_line_of_its_own():
    told = overview(audit_full=1, audit_dropped=1200, audit_lag=60.0, log_dropped=5, log_lag=7.0)
    found = lines(frame(told, None), 160)[2]
    assert found.strip() == (
        "no room for call records; 1,200 call records lost; the audit is 60.0s behind; "
        "5 lines of the access log lost; the access log is 7.0s behind"
    )


def test_names_are_never_markup():
    found = frame(overview(routes={"[red]x[/red]": route(5)}), None)
    assert "[red]x[/red]" in "\n".join(lines(found))


def test_rows_are_given_out_in_turns():
    assert allot([10, 10], 4, (0, 0, 1)) == [3, 1]
    assert allot([1, 10], 6, (0, 0, 1)) == [1, 5]
    assert allot([2, 3], 100, (0, 1)) == [2, 3]
    assert allot([2, 3], 0, (0, 1)) == [0, 0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01, "<0.1"), (0.05, "0.1"), (99.94, "99.9"), (12345, "12,345"), (2_500_000, "2.5M")],
)
def test_rates(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "-"), (1e-7, "<1µs"), (3.5e-4, "350µs"), (0.0012, "1.2ms"), (0.25, "250ms"), (2.5, "2.5s"), (120, "120s")],
)
def test_durations(value, text):
    assert duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (541, "541"), (2048, "2.0K"), (5 * 1024**2, "5.0M"), (1024**3, "1.0G")]
)
def test_bytes(value, text):
    assert size(value) == text
