"""`gatewayd stats`: figures over the calls of the running daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from gatewayd.cli.asking import Options, ask, control_of, filters, wanted

_DIMENSION = "DIMENSION"
_as_json = click.option("--json/--table", "as_json", help="As the daemon says it, or tables for people (the default).")
_exact = click.option("--exact", is_flag=True, help="Count percentiles from the calls themselves; slower.")


def _ranked(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of questions about keys."""
    text = "calls, errors, client_errors, refused, bytes, error_rate, mean, p50, p90, p99, or latency."
    command = click.option("--order", default="calls", show_default=True, help=f"What keys are ranked by: {text}")(
        command
    )
    limit = click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="So many keys.")
    return limit(_exact(_as_json(filters(command))))


@click.group()
def stats() -> None:
    """Figures over calls: the first by some measure, how they go, what changed. Of the last hour, if nothing is said.

    DIMENSION is what they are by: route, service, consumer, tenant, status, class, code, reason, target, operation,
    method, host, listener, credential, auth, plan, tls, client, agent, or all.
    """


@stats.command()
@click.argument("dimension", metavar=f"[{_DIMENSION}]", default="route")
@_ranked
@click.pass_context
def top(context: click.Context, /, **options: Any) -> None:
    """Show the first routes, or other keys, by calls or by another measure."""
    found = ask(control_of(context, options), "/v1/stats", _keys(options))
    if _printed(options, found):
        return
    from gatewayd.cli.stats_tables import print_top

    print_top(found)


@stats.command()
@filters
@click.option("--step", help="Time between points: 10s, 30s, 1m, 5m, 15m, 1h, 6h or 1d; what suits the period if not.")
@_exact
@_as_json
@click.pass_context
def series(context: click.Context, /, **options: Any) -> None:
    """Show how calls, errors and latencies went over time."""
    step = [("step", options["step"])] if options["step"] is not None else []
    query = [*wanted(options), *step, *_if_exact(options)]
    found = ask(control_of(context, options), "/v1/stats/series", query)
    if _printed(options, found):
        return
    from gatewayd.cli.stats_tables import print_series

    print_series(found)


@stats.command()
@click.argument("dimension", metavar=f"[{_DIMENSION}]", default="route")
@click.option("--against", default="previous", show_default=True, help="The period before: previous, day, or week ago.")
@click.option("--against-from", help="Where the period before begins, instead.")
@click.option("--against-to", help="Where it ends.")
@_ranked
@click.pass_context
def compare(context: click.Context, /, **options: Any) -> None:
    """Show what changed against an earlier period: what changed most comes first."""
    names = ("against_from", "against_to")
    explicit = [(name, options[name]) for name in names if options[name] is not None]
    query = [*_keys(options), *(explicit or [("against", options["against"])])]
    found = ask(control_of(context, options), "/v1/stats/compare", query)
    if _printed(options, found):
        return
    from gatewayd.cli.stats_tables import print_changes

    print_changes(found)


def _keys(options: Options) -> list[tuple[str, Any]]:
    by = [("by", options["dimension"])] if options["dimension"] != "all" else []
    return [*wanted(options), *by, ("order", options["order"]), ("limit", options["limit"]), *_if_exact(options)]


def _if_exact(options: Options) -> Iterable[tuple[str, str]]:
    return [("exact", "true")] if options["exact"] else []


def _printed(options: Options, found: Any) -> bool:
    """Print an answer as JSON, if it is wanted so."""
    if options["as_json"]:
        import json

        click.echo(json.dumps(found, indent=2))
    return bool(options["as_json"])
