"""Results for people: tables on the terminal and the same as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Result = dict[str, Any]
Rows = tuple[list[str], list[list[str]]]
"""(column heads, rows of cells)."""


def number(value: float | None, digits: int = 1) -> str:
    """A figure, "-" where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def with_spread(figure: dict[str, Any], name: str, digits: int = 2) -> str:
    """A median with its least and most."""
    text = number(figure.get(name), digits)
    if bounds := figure.get(f"{name}_spread"):
        text += f" ({number(bounds[0], digits)}–{number(bounds[1], digits)})"
    return text


def compared(result: Result) -> Rows:
    """Rows of a scenario that compares proxies under load."""
    heads = [
        "proxy",
        "CPU µs/request",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "worker MiB",
        "tree PSS MiB",
    ]
    heads += ["cores busy", "failed", "CPU, gatewayd ÷ it"]
    rows = [_load_row("gatewayd", result["gatewayd"], "")]
    for name, figure in result["peers"].items():
        rows.append(_load_row(name, figure, with_spread(figure, "cpu_ratio")))
    return heads, rows


def _load_row(name: str, figure: Result, against: str) -> list[str]:
    cpu = number(figure["cpu_us_per_request"])
    if bounds := figure["cpu_us_spread"]:
        cpu += f" ({number(bounds[0])}–{number(bounds[1])})"
    milliseconds = [number(figure[key], 2) for key in ("p50_ms", "p99_ms", "p999_ms")]
    memory = [number(figure.get("rss_mib")), number(figure.get("tree_pss_mib"))]
    rate = number(figure["requests_per_second"], 0)
    return [
        name,
        cpu,
        rate,
        *milliseconds,
        *memory,
        number(figure["cores_busy"], 2),
        f"{figure['failed']:,}",
        against,
    ]


def idle(result: Result) -> Rows:
    """What idle connections cost."""
    heads = ["proxy", "held", "worker MiB before", "growth MiB", "KiB/connection", "open afterwards"]
    rows = [
        [
            name,
            f"{figure['open']:,}",
            number(figure["rss_before_mib"]),
            number(figure["rss_growth_mib"]),
            number(figure["kib_per_connection"], 2),
            f"{figure['open_afterwards']:,}",
        ]
        for name, figure in result["idle"].items()
    ]
    return heads, rows


def slow(result: Result) -> Rows:
    """What slow readers and slow connections cost."""
    heads = [
        "proxy",
        "readers",
        "growth MiB",
        "disk MiB",
        "upstream sent MiB",
        "of it later",
        "p99 ms without",
    ]
    heads += ["p99 ms beside", "p99 ratio", "failed"]
    return heads, [_slow_row(name, figure) for name, figure in _everyone(result)]


def _slow_row(name: str, figure: Result) -> list[str]:
    readers, beside = figure["slow_readers"], figure["slow_neighbours"]
    return [
        name,
        str(readers["readers_left"]),
        number(readers["worker_growth_mib"]),
        number(readers["disk_mib"]),
        number(readers["upstream_sent_mib"]),
        number(readers["upstream_sent_later_mib"]),
        number(beside["without"]["p99_ms"], 2),
        number(beside["beside"]["p99_ms"], 2),
        with_spread(beside, "p99_ratio"),
        f"{beside['beside']['failed'] + beside['without']['failed']:,}",
    ]


def start(result: Result) -> Rows:
    """How long starting takes."""
    return ["proxy", "first byte after s"], [
        [name, with_spread(figure, "start_s", 3)] for name, figure in _everyone(result)
    ]


def _everyone(result: Result) -> Iterator[tuple[str, Result]]:
    yield "gatewayd", result["gatewayd"]
    yield from result["peers"].items()


def tables(result: Result) -> list[Rows]:
    """The tables of a scenario."""
    special = {"memory": [slow], "start": [start], "idle": [compared, idle]}
    return [make(result) for make in special.get(result["scenario"], [compared])]


def lines(result: Result) -> list[str]:
    """What stands below the tables: conditions, bars, remarks."""
    keys = ("traffic", "generator", "upstream", "layout")
    found = ["; ".join(f"{key}: {result[key]}" for key in keys if result.get(key))]
    shape = f"{result['rounds']} rounds"
    if "seconds_per_round" in result:
        shape += f" of {result['seconds_per_round']} s"
    shape += f", workers: {result['workers']}"
    if result.get("foreign_cores_busy") is not None:
        shape += f"; other work on this machine kept {result['foreign_cores_busy']} cores busy meanwhile"
    found.append(shape)
    if result.get("efficiency") is not None:
        found.append(f"efficiency {result['efficiency']}, throughput × {number(result['scale'], 2)}")
    found += [f"{'met' if bar['met'] else 'NOT MET'}: {_bar(bar)}" for bar in result["checks"]]
    return found + [f"note: {remark}" for remark in result["remarks"]]


def _bar(bar: Result) -> str:
    measured = "not measured" if bar["measured"] is None else f"{bar['measured']:g}"
    return f"{bar['what']}: {measured} ({bar['sense']} {bar['bar']:g})"


def show(console: Console, title: str, result: Result) -> None:
    """One scenario on the terminal."""
    console.print(f"[bold]{result['scenario']}[/]: {title}", highlight=False, soft_wrap=True)
    for heads, rows in tables(result):
        table = Table()
        for column, head in enumerate(heads):
            table.add_column(head, justify="right" if column else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in lines(result):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print()


def machine_lines(document: Result) -> list[str]:
    """Machine, versions, command, and what was left out."""
    machine = document["machine"]
    threads = f", {machine['threads_per_core']} threads a core" if machine["threads_per_core"] > 1 else ""
    found = [
        f"{machine['date']}: {machine['command']}",
        f"{machine['cpu']}, {machine['cores']} cores{threads}, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"load average {machine['load_average_at_start']} at the start",
        ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
    ]
    found += [f"skipped: {name} ({_first(reason)})" for name, reason in document["skipped"].items()]
    return found + [f"broken: {name} ({_first(reason)})" for name, reason in document["broken"].items()]


def _first(text: str) -> str:
    return text.partition("\n")[0].rstrip(":")


def markdown(document: Result, titles: dict[str, str], pictures: Sequence[str] = ()) -> str:
    """The whole run as a page."""
    parts = ["# The last published run", ""]
    parts += [f"- {line}" for line in machine_lines(document)]
    parts += [
        "",
        "How it is measured and what it does not say: [docs/benchmarks.md](../../../docs/benchmarks.md).",
        "",
    ]
    for result in document["scenarios"]:
        parts += [f"## {result['scenario']}: {titles[result['scenario']]}", ""]
        for heads, rows in tables(result):
            parts += [
                _markdown_row(heads),
                _markdown_row(["---"] * len(heads)),
                *map(_markdown_row, rows),
                "",
            ]
        parts += [f"- {line}" for line in lines(result)]
        parts.append("")
    parts += [f"![{picture.removesuffix('.svg')}]({picture})" for picture in pictures]
    return "\n".join(parts).rstrip() + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
