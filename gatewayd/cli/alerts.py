"""`gatewayd alerts`: what the running daemon has to tell of unusual traffic."""

from __future__ import annotations

from typing import Any

import click

from gatewayd.cli.commands import config_option, config_path, control_address
from gatewayd.errors import GatewaydError

_TIMEOUT = 30.0


@click.command()
@config_option
@click.option("--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's.")
@click.option("--open", "state", flag_value="open", default=True, help="Those that are open (the default).")
@click.option("--all", "state", flag_value="all", help="Those that are over, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="The latest so many.")
@click.option("--json", "as_json", is_flag=True, help="As the daemon says it.")
@click.pass_context
def alerts(context: click.Context, control: str | None, state: str, limit: int, as_json: bool) -> None:
    """Show alerts, the latest first: traffic that is not as it usually is."""
    import json

    from gatewayd.server.running import ask

    address = control or control_address(config_path(context))
    code, found = ask(address, "GET", f"/v1/alerts?state={state}&limit={limit}", _TIMEOUT)
    if code != 200:
        raise GatewaydError(found.get("error", f"status {code}"))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print(found["alerts"])


def _print(found: list[dict[str, Any]]) -> None:
    if not found:
        click.echo("no alerts")
    for alert in found:
        until = f", over since {alert['resolved_at']}" if alert["resolved_at"] else ""
        title = f"{alert['at']} {alert['severity']} {alert['detector']} {alert['subject']}{until}"
        click.secho(title, bold=alert["severity"] == "critical")
        click.echo(f"  {alert['text']}")
        parts = [f"{each['kind']} {each['name']} {each['share']:.0%}" for each in alert["contributors"]]
        if parts:
            click.echo(f"  most of it: {', '.join(parts)}")
