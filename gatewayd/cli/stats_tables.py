"""Figures over calls as tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatewayd.cli.log_tables import console_for_output, plain
from gatewayd.cli.screen import duration, size
from gatewayd.cli.tables import span

Measures = Mapping[str, Any]
_EIGHTHS = " ▏▎▍▌▋▊▉"
_UNNOTICED = 0.02
"""Of a period may be missing at its beginning before that is said."""
_NOTABLE = 0.1
"""A change of latency that is worth a color."""
_GAP = 1
_ROOMY = 100
"""Columns from which on there is room for all figures."""
_LONGEST_BAR = 60
_EMPTY = 2
"""Points without calls that are shown one behind the other, before it is said that there are more."""


def print_top(found: Mapping[str, Any]) -> None:
    """What `/v1/stats` answers."""
    console = console_for_output()
    _heading(console, found["period"], found["order"] if found["by"] else "")
    without = "mean" if found["order"] != "mean" else "p50"
    names = [name for name in _FIGURES if name != without and (name != "/s" or console.width >= _ROOMY)]
    table = _table(console, found["by"] or "", names)
    for row in found["rows"]:
        table.add_row(_key(row["key"]), *_figures(row["measures"], names))
    _total(table, _figures(found["total"], names), bool(found["rows"]))
    console.print(table)


def print_series(found: Mapping[str, Any]) -> None:
    """What `/v1/stats/series` answers."""
    console = console_for_output()
    _heading(console, found["period"], f"steps of {found['step']}")
    points = found["points"]
    most = max((point["measures"]["calls"] for point in points), default=0)
    names = ["calls", "5xx", "p50", "p90", "p99"]
    table = _table(console, "time", names)
    room = console.width - 16 - sum(_WIDTHS[name] + _GAP for name in names) - 2
    table.add_column("")
    for point, before in zip(points, _empty_before(points), strict=True):
        each = point["measures"]
        if not each["calls"] and before >= _EMPTY:
            if before == _EMPTY:
                table.add_row(Text("…", style="dim"))
            continue
        bar = Text(_bar(each["calls"] / most if most else 0, min(_LONGEST_BAR, room)), style="cyan")
        at = point["at"][5:19].replace("T", " ") if found["step"].endswith("s") else _minute(point["at"])
        table.add_row(at, *_figures(each, names), bar)
    console.print(table)


def _empty_before(points: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    """For each point, how many without calls stand right before it."""
    empty = 0
    for point in points:
        yield empty
        empty = 0 if point["measures"]["calls"] else empty + 1


def print_changes(found: Mapping[str, Any]) -> None:
    """What `/v1/stats/compare` answers."""
    console = console_for_output()
    _heading(console, found["now"], found["order"] if found["by"] else "")
    console.print(Text(f"against {_between(found['then'])}", style="dim"))
    names = ("calls", "before", "change", "5xx", "before ", "p99", "before  ", "change ")
    table = _table(console, found["by"] or "", names)
    for row in found["rows"]:
        table.add_row(_key(row["key"]), *_changes(row, found))
    _total(table, _changes(found["total"], found), bool(found["rows"]))
    console.print(table)


_WIDTHS = {
    "calls": 6,
    "before": 6,
    "before ": 6,
    "before  ": 7,
    "change": 7,
    "change ": 7,
    "/s": 6,
    "5xx": 6,
    "4xx": 6,
    "refused": 7,
    "mean": 6,
    "p50": 6,
    "p90": 6,
    "p99": 7,
    "bytes": 6,
}
_LEAST = 12
"""Columns that a key has in any case."""


def _table(console: Console, first: str, names: Sequence[str]) -> Table:
    """A table whose first column takes the room that figures leave."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    room = console.width - sum(_WIDTHS[name] + _GAP for name in names) - _GAP
    table.add_column(first, max_width=max(_LEAST, room), overflow="fold")
    for name in names:
        table.add_column(name.strip(), min_width=_WIDTHS[name], justify="right", no_wrap=True)
    return table


def _heading(console: Console, period: Mapping[str, Any], about: str) -> None:
    about = f", by {about}" if about and not about.startswith("steps") else (about and f", {about}")
    console.print(Text(f"{_between(period)}{about}", style="bold"))
    oldest = period["oldest"]
    if oldest is None:
        console.print(Text("no calls are kept yet", style="yellow"))
    elif _moment(oldest) > _moment(period["from"]) + timedelta(seconds=period["seconds"] * _UNNOTICED):
        console.print(Text(f"what is kept of this begins at {_minute(oldest)}", style="yellow"))


def _between(period: Mapping[str, Any]) -> str:
    begin, end = period["from"], period["to"]
    shown = (begin[:16] if begin[17:19] == "00" else begin[:19]).replace("T", " ")
    until = end[:19] if end[17:19] != "00" else end[:16]
    until = until[11:] if begin[:10] == end[:10] else until.replace("T", " ")
    return f"{shown} to {until} UTC ({span(period['seconds'])})"


def _figures(each: Measures, names: Sequence[str]) -> list[Text]:
    return [_FIGURES[name](each) for name in names]


_FIGURES: Final[dict[str, Callable[[Measures], Text]]] = {
    "calls": lambda each: _count(each["calls"]),
    "/s": lambda each: Text(_pace(each["per_second"])),
    "5xx": lambda each: _rate(each["error_rate"], each["calls"]),
    "4xx": lambda each: _rate(each["client_errors"] / max(1, each["calls"]), each["calls"], "yellow"),
    "refused": lambda each: _count(each["refused"]),
    "mean": lambda each: _time(each, "mean_us"),
    "p50": lambda each: _time(each, "p50_us"),
    "p90": lambda each: _time(each, "p90_us"),
    "p99": lambda each: _time(each, "p99_us"),
    "bytes": lambda each: Text(size(each["bytes_in"] + each["bytes_out"])),
}


def _changes(row: Mapping[str, Any], found: Mapping[str, Any]) -> list[Text]:
    """Calls are compared by the second where the periods differ in length."""
    now, then, change = row["now"], row["then"], row["change"]
    even = found["now"]["seconds"] == found["then"]["seconds"]
    pace = change["calls" if even else "per_second"]["relative"]
    worse = now["error_rate"] - then["error_rate"]
    slower = change["p99_us"]["relative"] if now["calls"] else None
    style = "" if slower is None or abs(slower) < _NOTABLE else ("red" if slower > 0 else "green")
    rate = _rate(now["error_rate"], now["calls"], "red" if worse > 0 else "green" if worse < 0 else "")
    return [
        _count(now["calls"]),
        _count(then["calls"]),
        Text(_became(now, then) or _signed(pace), "bold"),
        rate,
        _rate(then["error_rate"], then["calls"], ""),
        _time(now, "p99_us"),
        _time(then, "p99_us"),
        Text(_signed(slower), style=style),
    ]


def _became(now: Measures, then: Measures) -> str:
    """What a change of calls is called that is none by a share."""
    if now["calls"]:
        return "" if then["calls"] else "new"
    return "gone" if then["calls"] else "-"


def _total(table: Table, cells: Iterable[Text], apart: bool) -> None:
    if apart:
        table.add_section()
    table.add_row(Text("all", style="bold"), *cells)


def _key(key: str) -> Text:
    return Text(plain(key)) if key else Text("-", style="dim")


def _time(each: Measures, name: str) -> Text:
    return Text(duration(each[name] / 1_000_000) if each["calls"] else "-")


def _count(number: int) -> Text:
    """At most five characters: `9,999`, `10.0K`, `1.12M`."""
    if number < 10_000:
        return Text(f"{number:,}" if number else "0", style="" if number else "dim")
    for unit, each in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= each:
            value = number / each
            return Text(f"{value:.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}")
    raise AssertionError(number)


def _pace(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _rate(share: float, calls: int, style: str = "red") -> Text:
    if not calls:
        return Text("-", style="dim")
    text = "0%" if not share else "<0.1%" if share < 0.001 else f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
    return Text(text, style=style if share else "dim")


def _signed(relative: float | None) -> str:
    if relative is None:
        return "-"
    return f"×{relative + 1:.0f}" if relative >= 9.5 else f"{relative:+.0%}"


def _bar(share: float, room: int) -> str:
    """A bar of eighths of a character."""
    eighths = round(share * room * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


def _moment(at: str) -> datetime:
    return datetime.fromisoformat(at)
