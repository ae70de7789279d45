"""`gatewayd alerts`: what the running daemon has to tell of unusual traffic."""

from __future__ import annotations

from typing import Any

import click

from gatewayd.cli.asking import ask, control_of
from gatewayd.cli.commands import config_option

_ABOUT = ("enumeration", "error_burst", "quota_burn")
"""Detectors whose subjects end with what of them it is about: an operation, a class of errors, a quota."""
_STATUSES = {"5xx": ("5xx",), "4xx": ("4xx",), "denied": ("401", "403"), "errors": ("4xx", "5xx")}


@click.command()
@config_option
@click.option("--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's.")
@click.option("--open", "state", flag_value="open", default=True, help="Those that are open (the default).")
@click.option("--all", "state", flag_value="all", help="Those that are over, too.")
@click.option("--detector", metavar="NAME", help="Of one detector, such as rate.")
@click.option("--severity", type=click.Choice(["warning", "critical"]), help="Of one severity.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="The latest so many.")
@click.option("--json", "as_json", is_flag=True, help="As the daemon says it.")
@click.pass_context
def alerts(context: click.Context, /, **options: Any) -> None:
    """Show alerts, the latest first: traffic that is not as it usually is. Times are UTC."""
    import json

    names = ("state", "detector", "severity", "limit")
    query = [(name, options[name]) for name in names if options[name] is not None]
    found = ask(control_of(context, options), "/v1/alerts", query)
    if options["as_json"]:
        click.echo(json.dumps(found, indent=2))
    else:
        _print(found["alerts"])


def _print(found: list[dict[str, Any]]) -> None:
    from gatewayd.cli.log_tables import plain

    if not found:
        click.echo("no alerts")
    for alert in found:
        until = f", over since {alert['resolved_at']}" if alert["resolved_at"] else ""
        title = f"{alert['at']} {alert['severity']} {alert['detector']} {alert['subject']}{until}"
        click.secho(plain(title), bold=alert["severity"] == "critical")
        click.echo(plain(f"  {alert['text']}"))
        parts = [f"{each['kind']} {each['name']} {each['share']:.0%}" for each in alert["contributors"]]
        if parts:
            click.echo(plain(f"  most of it: {', '.join(parts)}"))
        click.echo(plain(f"  see: {_question(alert)}"))


def _question(alert: dict[str, Any]) -> str:
    """The command that shows the calls: an alert itself names no addresses (docs/anomalies.md)."""
    import shlex

    kind, _, name = alert["subject"].partition(":")
    name, _, about = name.rpartition(" ") if alert["detector"] in _ABOUT else (name, "", "")
    consumer, _, credential = name.partition("/")
    of_subject = {
        "consumer": [("consumer", name)],
        "route": [("route", name)],
        "credential": [("consumer", consumer), ("credential", credential)],
    }.get(kind, [])
    of_error = [("status", each) for each in _STATUSES.get(about or alert["detector"], ())]
    of_operation = [("operation", about)] if alert["detector"] == "enumeration" else []
    times = [("from", alert["at"])] + ([("to", alert["resolved_at"])] if alert["resolved_at"] else [])
    words = [f"--{option} {shlex.quote(value)}" for option, value in of_subject + of_operation + of_error + times]
    return " ".join(["gatewayd logs", *words])
