"""Calls as lines that fit a terminal, and all about one of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatewayd.cli.screen import duration, size

Call = Mapping[str, Any]
_WIDE = 240
"""Columns where the output is no terminal: nothing is cut off there."""
_ROOMY = 120
"""Columns from which on a request id has its place, which has 32."""
_FIXED = {"time": 12, "status": 3, "ms": 7}
_STYLES = {2: "green", 3: "cyan", 4: "yellow", 5: "red"}
_MICROSECONDS = ("total_us", "upstream_us")
_BYTES = ("bytes_in", "bytes_out")


class Lines:
    """Prints calls below each other, a heading before the first and a line for each new day. Times are UTC."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or console_for_output()
        self._day = ""
        self._begun = False

    def print(self, calls: Iterable[Call]) -> None:
        """Print some more."""
        table = self._table(heading=not self._begun)
        self._begun = True
        for call in calls:
            day = call["at"][:10]
            if day != self._day:
                self._flush(table)
                self._console.print(Text(f"{day} (UTC)", style="dim"))
                table = self._table(heading=False)
                self._day = day
            table.add_row(*self._cells(call))
        self._flush(table)

    def _flush(self, table: Table) -> None:
        if table.row_count or table.show_header:
            self._console.print(table)

    @property
    def _cuts(self) -> bool:
        return self._console.is_terminal

    @property
    def _roomy(self) -> bool:
        return self._console.width >= _ROOMY

    def _table(self, *, heading: bool) -> Table:
        """Widths are fixed, so that what is printed later stands below what came before."""
        table = Table(box=None, show_header=heading, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        for name, width in self._widths().items():
            table.add_column(
                name,
                width=width,
                overflow="ellipsis" if self._cuts else "fold",
                no_wrap=self._cuts,
                justify="right" if name in ("ms", "bytes") else "left",
            )
        return table

    def _widths(self) -> dict[str, int]:
        more = {"bytes": 7, "request id": 32} if self._roomy else {}
        columns = len(_FIXED) + len(more) + 3
        room = self._console.width - sum(_FIXED.values()) - sum(more.values()) - columns
        consumer, why = room * 22 // 100, room * 30 // 100
        return {
            "time": _FIXED["time"],
            "st.": _FIXED["status"],
            "call": room - consumer - why,
            "consumer": consumer,
            "ms": _FIXED["ms"],
            "why": why,
            **more,
        }

    def _cells(self, call: Call) -> list[Text]:
        called = f"{call['method']} {call['operation'] or call['route'] or call['host']}"
        style = _STYLES.get(call["status"] // 100, "")
        cells = [
            Text(call["at"][11:23], style="dim"),
            Text(str(call["status"]), style=style),
            Text(plain(called)),
            Text(plain(call["consumer"]) or "-", style="" if call["consumer"] else "dim"),
            Text(f"{call['total_us'] / 1000:.1f}"),
            Text(plain(call["code"] or call["reason"]), style=style),
        ]
        if self._roomy:
            cells += [Text(size(call["bytes_in"] + call["bytes_out"])), Text(plain(call["request_id"]), style="dim")]
        return cells


def print_call(call: Call) -> None:
    """All that is known of a call, one fact below the other."""
    console = console_for_output()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in call.items():
        if name == "captured" or value is None or value in ("", False):
            continue
        table.add_row(name.removesuffix("_us"), Text(_shown(name, value)))
    gone = [name for name in ("client", "peer", "agent", "values") if call.get(name) is None]
    if gone:
        table.add_row("erased", ", ".join(gone))
    console.print(table)
    if call.get("captured"):
        console.print(Text(plain(json.dumps(call["captured"], indent=2, ensure_ascii=False), lines=True)))


def _shown(name: str, value: Any) -> str:
    if name in _MICROSECONDS:
        return duration(value / 1_000_000)
    if name in _BYTES:
        return size(value)
    return plain(str(value))


def console_for_output() -> Console:
    """Where tables are printed: as wide as the terminal, or wide enough for programs."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)


def plain(text: str, *, lines: bool = False) -> str:
    """A text from outside without what a terminal would take for an order."""
    return "".join(
        each if each.isprintable() or (lines and each == "\n") else each.encode("unicode_escape").decode()
        for each in text
    )
