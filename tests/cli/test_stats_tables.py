from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from gatewayd.cli import stats_tables
from gatewayd.collect.answers import change_of
from gatewayd.collect.stats import Change, Measures

PERIOD = {
    "from": "2027-01-15T11:00:00Z",
    "to": "2027-01-15T12:00:00Z",
    "seconds": 3600.0,
    "source": "1m",
    "oldest": "2027-01-01T00:00:00Z",
}
MANY = Measures(
    calls=12_345_678, per_second=3429.0, errors=1, error_rate=0.0000001, client_errors=6_000_000, refused=1_234_567,
    bytes_in=10**13, bytes_out=1, p50_us=999, p90_us=123_456, p99_us=12_345_678,
)  # fmt: skip
FEW = Measures(calls=3, per_second=0.001, errors=3, error_rate=1.0, p50_us=5, p90_us=5, p99_us=5)
LONG = "a-route-with-quite-a-long-name-that-goes-on"


@pytest.fixture
def shown(monkeypatch):
    """What is printed at a width, line by line."""

    def show(function, found, width=80):
        file = io.StringIO()
        console = Console(file=file, width=width, highlight=False, markup=False)
        monkeypatch.setattr(stats_tables, "console_for_output", lambda: console)
        function(msgspec.to_builtins(found))
        return [line.rstrip() for line in file.getvalue().splitlines()]

    return show


def top(*rows, by="route", **period):
    found = [{"key": key, "measures": measures} for key, measures in rows]
    return {"period": PERIOD | period, "by": by, "order": "calls", "total": MANY, "rows": found}


@pytest.mark.parametrize("width", [80, 100, 240])
def test_figures_fit(shown, width):
    lines = shown(stats_tables.print_top, top((LONG, MANY), ("b", FEW), ("", Measures())), width)
    assert max(map(len, lines)) <= width
    assert ("/s" in lines[1].split()) == (width >= 100)
    text = "".join("".join(line.split()[:1]) for line in lines[2:] if line[:1] != " ")
    assert text.startswith(LONG)


def test_how_figures_are_written(shown):
    _, heading, many, few, none, everything = shown(
        stats_tables.print_top, top(("a", MANY), ("b", FEW), ("", Measures())), 100
    )
    assert heading.split() == ["route", "calls", "/s", "5xx", "4xx", "refused", "p50", "p90", "p99", "bytes"]
    assert many.split()[1:] == ["12.3M", "3,429", "<0.1%", "49%", "1.2M", "999µs", "123ms", "12.3s", "9313.2G"]
    assert few.split()[1:] == ["3", "0.00", "100%", "0%", "0", "5.0µs", "5.0µs", "5.0µs", "0"]
    assert none.split() == ["-", "0", "0.00", "-", "-", "0", "-", "-", "-", "0"]
    assert everything.split()[0] == "all"


def test_what_keys_are_ranked_by_is_shown(shown):
    slow = {**top(("a", Measures(calls=1, mean_us=7000, p50_us=3)), ("b", FEW)), "order": "mean"}
    _, heading, first, *_ = shown(stats_tables.print_top, slow)
    assert "p50" not in heading
    assert first.split()[heading.split().index("mean")] == "7.0ms"


def test_which_period_it_is(shown):
    assert shown(stats_tables.print_top, top())[0] == "2027-01-15 11:00 to 12:00 UTC (1h), by calls"
    other = top(by=None, **{"from": "2027-01-14T23:59:50Z", "to": "2027-01-15T00:10:10Z", "seconds": 620.0})
    assert shown(stats_tables.print_top, other)[0] == "2027-01-14 23:59:50 to 2027-01-15 00:10:10 UTC (10m 20s)"


def test_what_is_missing_is_said(shown):
    assert shown(stats_tables.print_top, top(oldest=None))[1] == "no calls are kept yet"
    late = shown(stats_tables.print_top, top(oldest="2027-01-15T11:30:00Z"))
    assert late[1] == "what is kept of this begins at 2027-01-15 11:30"
    assert "kept" not in shown(stats_tables.print_top, top(oldest="2027-01-15T11:01:00Z"))[1]


def test_a_series_has_bars(shown):
    points = [
        {"at": f"2027-01-15T11:00:{second}0Z", "measures": Measures(calls=calls)}
        for second, calls in enumerate([0, 1, 4, 8])
    ]
    found = {"period": PERIOD, "step": "10s", "points": points}
    title, _, *rows = shown(stats_tables.print_series, found)
    assert title == "2027-01-15 11:00 to 12:00 UTC (1h), steps of 10s"
    assert [row[:14] for row in rows] == [f"01-15 11:00:{second}0" for second in range(4)]
    lengths = [len(row) - len(row.rstrip("█▏▎▍▌▋▊▉")) for row in rows]
    assert lengths[0] == 0
    assert lengths[1] < lengths[2] < lengths[3]
    assert lengths[2] == pytest.approx(lengths[3] / 2, abs=1)
    assert max(map(len, rows)) <= 80
    assert shown(stats_tables.print_series, {**found, "points": []})[1:] == ["time  calls    5xx    p50    p90     p99"]


def test_long_times_without_calls_are_cut_short(shown):
    counts = [0, 0, 5, 0, 0, 0, 0, 6, 0, 0, 0]
    points = [
        {"at": f"2027-01-15T11:{minute:02}:00Z", "measures": Measures(calls=calls)}
        for minute, calls in enumerate(counts)
    ]
    rows = shown(stats_tables.print_series, {"period": PERIOD, "step": "1m", "points": points})[2:]
    assert [row.split()[1][3:] if ":" in row else row.strip() for row in rows] == [
        "00", "01", "02", "03", "04", "…", "07", "08", "09", "…",
    ]  # fmt: skip


def compared(*rows, total=(MANY, FEW), then=PERIOD):
    changes = [change_of(Change(key, now, before)) for key, now, before in rows]
    return {
        "now": PERIOD,
        "then": then,
        "by": "route",
        "order": "calls",
        "total": change_of(Change("", *total)),
        "rows": changes,
    }


def test_changes(shown):
    steady = msgspec.structs.replace(FEW, calls=4, error_rate=0.5, p99_us=10)
    lines = shown(
        stats_tables.print_changes,
        compared(
            (LONG, MANY, FEW),
            ("new", FEW, Measures()),
            ("gone", Measures(), FEW),
            ("never", Measures(), Measures()),
            ("steady", steady, FEW),
        ),
    )
    assert max(map(len, lines)) <= 80
    cells = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert cells["new"] == ["3", "0", "new", "100%", "-", "5.0µs", "-", "-"]
    assert cells["gone"] == ["0", "3", "gone", "-", "100%", "-", "5.0µs", "-"]
    assert cells["never"] == ["0", "0", *"------"]
    assert cells["steady"] == ["4", "3", "+33%", "50%", "100%", "10.0µs", "5.0µs", "+100%"]
    assert cells["all"][:3] == ["12.3M", "3", "×4115226"]


def test_periods_of_different_length_are_compared_by_the_second(shown):
    now, then = Measures(calls=10, per_second=1.0), Measures(calls=10, per_second=2.0)
    lines = shown(stats_tables.print_changes, compared(("a", now, then), then={**PERIOD, "seconds": 7200.0}))
    assert next(line.split()[1:4] for line in lines if line.startswith("a ")) == ["10", "10", "-50%"]
