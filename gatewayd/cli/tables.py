"""Tables for people at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from gatewayd.gateway.explain import RouteRow

if TYPE_CHECKING:
    from gatewayd.gateway.replay import Report

_SUMMED = ("requests", "failures", "in_flight", "ejections")
_BREAKERS = ("", "closed", "half_open", "open")
"""From good to bad."""
_WIDE = 240
"""Columns where the output is no terminal: programs don't want lines broken."""


def print_status(found: Mapping[str, Any]) -> None:
    """What the daemon's `/status` says."""
    console = _console()
    daemon = f"gatewayd {found['version']}, process {found['pid']}, {found['state']}"
    console.print(f"{daemon}, generation {found['generation']}, up {span(found['uptime_seconds'])}")
    console.print(f"configuration {found['configuration']}, {found['routes']} routes")
    last = found["last_reload"]
    if last is not None:
        outcome = "succeeded" if last["succeeded"] else "failed"
        console.print(f"last reload {outcome}", *last["faults"], sep="\n  ")
    _print(console, "worker process state generation connections restarts up", map(_worker, found["workers"]))
    listeners = found["listeners"].items()
    rows = [(name, each["address"], "yes" if each["tls"] else "no") for name, each in listeners]
    _print(console, "listener address tls", rows)
    columns = "upstream target available requests failures in-flight ejections breaker"
    _print(console, columns, targets(found["workers"]))


def print_routes(rows: Iterable[RouteRow]) -> None:
    """The routes of a configuration, in its order."""
    cells = (
        (
            row.name,
            " ".join(row.methods) or "any",
            " ".join(row.hosts) or "any",
            "\n".join((row.path, *row.conditions)),
            row.answer,
            " ".join(row.policies),
            " ".join(row.listeners),
        )
        for row in rows
    )
    _print(_console(), "route methods hosts path answer policies listeners", cells)


def print_keys(rows: Iterable[Sequence[str]]) -> None:
    """API keys: whose, what they are called, how they end, whether they work, the hour (UTC) of their last use."""
    _print(_console(), "consumer key ends state used", rows)


def print_replay(report: Report, limit: int) -> None:
    """What a replay found, with at most `limit` kinds of changes."""
    console = _console()
    console.print(
        f"{report.calls} calls: {report.same} as they were, {report.changed} not, {report.undecidable} undecided"
    )
    changes = report.most(limit)
    rows = [
        (tally.count, *change[:2], *(text or "-" for text in change[2:]), " ".join(tally.samples))
        for change, tally in changes
    ]
    _print(console, "calls was would-be route consumer request-ids", rows)
    if len(changes) < len(report.changes):
        console.print(f"and {len(report.changes) - len(changes)} other kinds of changes; --all shows them\n")
    unknown = sorted(report.undecided.items(), key=lambda item: -item[1].count)
    _print(
        console, "undecided not-on-record request-ids", [(t.count, what, " ".join(t.samples)) for what, t in unknown]
    )
    for text in report.broken:
        console.print(f"not read: {text}")


def targets(workers: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Each target with what all workers together say of it; `available` is in how many of them it is.

    The breaker is the upstream's: what it is in the worker where it is worst.
    """
    sums: dict[tuple[str, str], list[int]] = {}
    breakers: dict[str, str] = {}
    for worker in workers:
        for upstream, group in (worker["edge"] or {}).get("upstreams", {}).items():
            breakers[upstream] = max(breakers.get(upstream, ""), group["breaker"]["state"], key=_BREAKERS.index)
            for target in group["targets"]:
                row = sums.setdefault((upstream, target["address"]), [0] * (2 + len(_SUMMED)))
                told = (target["available"], 1, *(target[what] for what in _SUMMED))
                row[:] = [have + more for have, more in zip(row, told, strict=True)]
    return [(*key, f"{row[0]}/{row[1]}", *row[2:], breakers[key[0]]) for key, row in sums.items()]


def span(seconds: float) -> str:
    """A time in its two largest units: `3d 4h`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    shown = [f"{number}{unit}" for number, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")) if number]
    return " ".join(shown[:2]) or "0s"


def _worker(each: Mapping[str, Any]) -> tuple[object, ...]:
    connections = (each["edge"] or {}).get("connections", "?")
    return (
        each["index"],
        each["pid"],
        each["state"],
        each["generation"],
        connections,
        each["restarts"],
        span(each["uptime_seconds"]),
    )


def _console() -> Console:
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)


def _print(console: Console, columns: str, rows: Iterable[Sequence[object]]) -> None:
    """One table, unless it is empty. Nothing in it is cut off: what is too long goes on in the next line."""
    table = Table(box=box.SIMPLE)
    for column in columns.split():
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    if table.row_count:
        console.print(table)
