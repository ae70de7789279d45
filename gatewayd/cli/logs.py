"""`gatewayd logs`: single calls of the running daemon, those that were and those that come."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatewayd.cli.asking import Options, Unavailable, ask, control_of, filters, save, wanted
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from gatewayd.cli.log_tables import Call

_PAGE = 1_000
_MOST = 100_000
_WAIT = 20
"""Seconds that the daemon waits for a call before it says that there was none."""
_FORMATS = ("parquet", "csv", "ndjson")
_AGAIN, _PATIENCE = 1.0, 60.0
"""Seconds between two attempts to reach a daemon that restarts, and until we give up."""


@click.command()
@filters
@click.option("--limit", type=click.IntRange(1, _MOST), help="The latest so many: 50, or 10 before those that come.")
@click.option("--oldest", is_flag=True, help="The oldest that fulfil all that, instead of the latest.")
@click.option("-f", "--follow", is_flag=True, help="Go on with calls as they come in, until Ctrl-C.")
@click.option("--json/--table", "as_json", help="A JSON object per line, or lines for people (the default).")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="All into this file: .parquet, .csv or .ndjson.")
@click.option("--captured", is_flag=True, help="With --output: with what routes captured.")
@click.pass_context
def logs(context: click.Context, /, **options: Any) -> None:
    """Show calls: who called what, and what became of it. Times are UTC. A filter given twice takes either."""
    query = wanted(options)
    _check(options)
    control = control_of(context, options)
    if options["output"] is not None:
        _export(control, query, options["output"], captured=options["captured"])
    elif options["follow"]:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(control, query, options)
    elif {name for name, _ in query} == {"request_id"} and not options["as_json"]:
        _details(control, options["request_id"])
    else:
        calls = list(_calls(control, query, options["limit"] or 50, oldest=options["oldest"]))
        if calls or options["as_json"]:
            _printer(options)(calls if options["oldest"] else reversed(calls))
        else:
            click.echo("no calls", err=True)


def _check(options: Options) -> None:
    """Raises `click.UsageError` for options that don't go together."""
    for one, others in {"output": ("follow", "limit", "oldest"), "follow": ("oldest", "to_")}.items():
        for other in others:
            if options[one] and options[other]:
                raise click.UsageError(f"--{other.strip('_')} does not go with --{one}")
    if options["captured"] and not options["output"]:
        raise click.UsageError("--captured goes with --output")


def _printer(options: Options) -> Callable[[Iterable[Call]], None]:
    if options["as_json"]:
        return _print_json
    from gatewayd.cli.log_tables import Lines

    return Lines().print


def _print_json(calls: Iterable[Call]) -> None:
    import msgspec

    for call in calls:
        click.echo(msgspec.json.encode(call))


def _calls(control: str, query: list[tuple[str, str]], limit: int, *, oldest: bool) -> Iterator[Call]:
    """So many calls, page by page."""
    cursor: list[tuple[str, str]] = []
    while limit > 0:
        more = [("order", "oldest" if oldest else "newest"), ("limit", min(limit, _PAGE))]
        page = ask(control, "/v1/logs", [*query, *more, *cursor])
        yield from page["calls"]
        if not page["cursor"]:
            return
        limit -= len(page["calls"])
        cursor = [("cursor", page["cursor"])]


def _details(control: str, ids: Iterable[str]) -> None:
    """All about the calls of some ids."""
    from urllib.parse import quote

    from gatewayd.cli.log_tables import print_call

    for number, each in enumerate(ids):
        for call in ask(control, f"/v1/calls/{quote(each, safe='')}"):
            if number:
                click.echo()
            print_call(call)


def _follow(control: str, query: list[tuple[str, str]], options: Options) -> None:
    """The latest calls, and then each that comes in: the position of the page says where that begins."""
    show = _printer(options)
    page = ask(control, "/v1/logs", [*query, ("limit", min(options["limit"] or 10, _PAGE))])
    show(reversed(page["calls"]))
    query = [pair for pair in query if pair[0] != "from"]
    position = page["position"]
    while True:
        found = _news(control, [*query, ("position", position), ("wait", _WAIT)])
        position = found["position"]
        if found["calls"]:
            show(found["calls"])


def _news(control: str, query: list[tuple[str, object]], pause: Callable[[float], object] = time.sleep) -> Any:
    """What came in. A daemon that restarts, or has too much to answer, is asked again: positions outlive that.

    Raises `NotRunning`, `Unavailable` in the end.
    """
    from gatewayd.server.running import NotRunning

    tries = int(_PATIENCE / _AGAIN)
    while True:
        try:
            return ask(control, "/v1/logs/follow", query)
        except (NotRunning, Unavailable):
            tries -= 1
            if not tries:
                raise
            pause(_AGAIN)


def _export(control: str, query: list[tuple[str, str]], path: Path, *, captured: bool) -> None:
    """Into a file of our own, which is there when it is whole."""
    kind = path.suffix[1:]
    if kind not in _FORMATS:
        raise click.UsageError(f"-o {path}: the name is to end in one of {', '.join(f'.{each}' for each in _FORMATS)}")
    if path.exists():
        raise GatewaydError(f"{path} is there already")
    if not path.parent.is_dir():
        raise GatewaydError(f"there is no folder {path.parent}")
    part = path.with_name(f".{path.name}.part")
    more = [("format", kind), *([("captured", "true")] if captured else [])]
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            save(control, [*query, *more], file)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{path}: {path.stat().st_size:,} bytes", err=True)
