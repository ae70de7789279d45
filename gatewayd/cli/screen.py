"""A frame of `gatewayd top` as rich draws it, in as many lines as there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gatewayd.cli.rates import Frame, Row, Target, troubled
from gatewayd.cli.tables import span
from gatewayd.server.overview import Overview

WIDE = 150
"""Columns from which sections stand side by side."""
ROOMY = 100
"""Columns of a section from which there is room for more."""
_AROUND = 2
"""Lines of a section beside its rows: an empty one, and its heading."""
_GAP = 2
BEHIND = 5.0
"""Seconds that what is written may lag before it is trouble."""


@dataclass(frozen=True, slots=True)
class Consumers:
    """Rows of consumers; where there are none, why."""

    rows: Sequence[Row] = ()
    reason: str = ""


def draw(frame: Frame, consumers: Consumers, sort: str, width: int, height: int = 0) -> RenderableType:
    """The whole screen. `height`: lines, 0 for as many as it takes."""
    header = _header(frame, sort)
    wide = width >= WIDE
    columns = (width - _GAP) // 2 if wide else width
    sections: list[tuple[int, Callable[[int], RenderableType]]] = [
        (len(frame.routes), lambda room: _rows("route", frame.routes, room, columns, "no traffic yet")),
        (len(consumers.rows), lambda room: _rows("consumer", consumers.rows, room, columns, consumers.reason)),
        (max(len(frame.policies), len(frame.refusals)), lambda room: _decisions(frame, room)),
        (len(frame.targets), lambda room: _targets(frame.targets, room)),
    ]
    wanted = [max(1, rows) for rows, _ in sections]
    if wide:
        wanted = [max(wanted[:2]), max(wanted[2:])]
    room = height - len(header) - _AROUND * len(wanted) if height else sum(wanted)
    given = allot(wanted, max(room, len(wanted)), (0, 0, 1) if wide else (0, 0, 1, 0, 2, 3))
    parts = [section for _, section in sections]
    if wide:
        drawn = [
            _beside(left(rows), right(rows)) for left, right, rows in zip(parts[::2], parts[1::2], given, strict=True)
        ]
    else:
        drawn = [section(rows) for section, rows in zip(parts, given, strict=True)]
    return Group(*header, *(part for each in drawn for part in ("", each)))


def allot(wanted: Sequence[int], room: int, turns: Sequence[int]) -> list[int]:
    """How many rows each section gets of `room`: one each, then more by `turns`, until all have what they want."""
    given = [0] * len(wanted)
    order = chain(range(len(wanted)), cycle(turns))
    while room > 0 and given != list(wanted):
        section = next(order)
        if given[section] < wanted[section]:
            given[section] += 1
            room -= 1
    return given


def number(value: float) -> str:
    """A rate: three figures, but for what is beyond a million."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:.1f}M"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.05 else ("0" if not value else "<0.1")


def duration(seconds: float) -> str:
    """`350µs`, `1.2ms`, `2.5s`; nothing for 0."""
    if not seconds:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            value = seconds / size
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}"
    return "<1µs"


def size(count: float) -> str:
    """Bytes: `541`, `1.2K`, `3.4M`."""
    for unit, each in (("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if count >= each:
            return f"{count / each:.1f}{unit}"
    return f"{count:.0f}"


def _header(frame: Frame, sort: str) -> list[RenderableType]:
    now, total = frame.overview, frame.total
    first, second = _line(), _line()
    first.append(f"gatewayd {now.version}", "bold")
    first.append(f"  generation {now.generation}  ")
    first.append(now.state if now.ready else f"{now.state}, not ready", "" if now.ready else "bold red")
    first.append(f"  workers {now.serving}/{now.workers}", "" if now.serving == now.workers else "bold red")
    if now.restarts:
        first.append(f" ({now.restarts} restarts)", "yellow")
    first.append(f"  up {span(now.now - now.started)}")
    first.append(f"  {time.strftime('%H:%M:%S', time.localtime(now.now))}  by {sort}", "dim")
    second.append(f"{number(total.rps)} req/s", "bold")
    second.append(f"  busy {now.in_flight:,}  conns {now.connections:,}")
    errors = total.errors / total.rps if total.rps else 0.0
    second.append(f"  5xx {errors:.1%}", "bold red" if errors >= 0.01 else "yellow" if errors else "")
    second.append(f"  p50 {duration(total.p50)}  p99 {duration(total.p99)}")
    second.append(f"  audit lag {duration(now.audit_lag)}")
    trouble = list(_trouble(now))
    return [first, second, *([_line("; ".join(trouble), "bold red")] if trouble else [])]


def _line(text: str = "", style: str = "") -> Text:
    """One that is cut off where the screen ends."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _trouble(now: Overview) -> Iterator[str]:
    if now.audit_full:
        yield "no room for call records"
    if now.audit_dropped:
        yield f"{now.audit_dropped:,} call records lost"
    if now.audit_lag > BEHIND:
        yield f"the audit is {duration(now.audit_lag)} behind"
    if now.log_dropped:
        yield f"{now.log_dropped:,} lines of the access log lost"
    if now.log_lag > BEHIND:
        yield f"the access log is {duration(now.log_lag)} behind"


def _beside(left: RenderableType, right: RenderableType) -> RenderableType:
    both = Table.grid(expand=True, padding=(0, _GAP, 0, 0))
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(left, right)
    return both


def _table(*columns: str) -> Table:
    """The first column takes what the others leave."""
    table = Table(box=None, pad_edge=False, expand=True, header_style="reverse", padding=(0, 1))
    for place, column in enumerate(columns):
        if place:
            table.add_column(column, justify="right", no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(column, ratio=1, no_wrap=True, overflow="ellipsis")
    return table


def _title(name: str, shown: int, there: int) -> str:
    return f"{name} ({shown} of {there:,})" if shown < there else name


def _rows(name: str, rows: Sequence[Row], room: int, columns: int, reason: str) -> RenderableType:
    """Routes or consumers."""
    roomy = columns >= ROOMY
    more = ("upstream", "in B/s", "out B/s") if roomy else ("B/s",)
    table = _table(_title(name, min(room, len(rows)), len(rows)), "req/s", "p50", "p99", "4xx/s", "5xx/s", *more)
    for row in rows[:room]:
        rest = (duration(row.upstream), size(row.bytes_in), size(row.bytes_out))
        table.add_row(
            Text(row.name or "(nobody known)"),
            number(row.rps),
            duration(row.p50),
            duration(row.p99),
            Text(number(row.client_errors), "yellow" if row.client_errors else ""),
            Text(number(row.errors), "bold red" if row.errors else ""),
            *(rest if roomy else (size(row.bytes_in + row.bytes_out),)),
            style="" if row.rps else "dim",
        )
    if not rows:
        table.add_row(Text(reason, "dim"))
    return table


def _decisions(frame: Frame, room: int) -> RenderableType:
    """What policies decided, and beside it what was refused or failed."""
    tables = []
    for name, counts in (("policy", frame.policies), ("refusal, failure", frame.refusals)):
        table = _table(_title(name, min(room, len(counts)), len(counts)), "/s", "total")
        for each in counts[:room]:
            table.add_row(Text(each.name), number(each.rate), f"{each.total:,}", style="" if each.rate else "dim")
        if not counts:
            table.add_row(Text("none yet", "dim"))
        tables.append(table)
    return _beside(*tables)


def _targets(targets: Sequence[Target], room: int) -> RenderableType:
    name = _title("target", min(room, len(targets)), len(targets))
    table = _table(name, "workers", "req/s", "fail/s", "busy", "conns", "latency", "breaker")
    for target in targets[:room]:
        table.add_row(*_target(target), style="red" if troubled(target) else "")
    if not targets:
        table.add_row(Text("none", "dim"))
    return table


def _target(target: Target) -> Iterator[RenderableType]:
    counts = target.counts
    yield Text(f"{counts.upstream} {counts.target}")
    yield f"{counts.available}/{counts.workers}"
    yield number(target.rps)
    yield Text(number(target.failures), "bold red" if target.failures else "")
    yield str(counts.in_flight)
    yield f"{counts.connections}+{counts.waiting}" if counts.waiting else str(counts.connections)
    yield duration(counts.latency_seconds)
    yield counts.breaker
