"""`gatewayd cache`: what the running daemon's workers have stored."""

from __future__ import annotations

import click

from gatewayd.cli.commands import config_option, config_path, control_address
from gatewayd.errors import GatewaydError

_TIMEOUT = 30.0


@click.group()
def cache() -> None:
    """Stored replies of the running daemon."""


@cache.command()
@config_option
@click.option("--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's.")
@click.option("--url", metavar="URL", help="This one: https://host/path?query, or /path?query on every host.")
@click.option("--prefix", metavar="URL", help="All whose URL begins so.")
@click.option("--tag", metavar="TAG", help="All whose Cache-Tag or Surrogate-Key names it.")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.pass_context
def purge(
    context: click.Context, control: str | None, url: str | None, prefix: str | None, tag: str | None, everything: bool
) -> None:
    """Forget stored replies, in all workers."""
    from gatewayd.server.running import ask

    named = {"url": url, "prefix": prefix, "tag": tag, "all": "" if everything else None}
    wanted = [(kind, value) for kind, value in named.items() if value is not None]
    if len(wanted) != 1:
        raise click.UsageError("say one of --url, --prefix, --tag and --all")
    ((kind, value),) = wanted
    body = {"kind": kind, "value": value}
    status, found = ask(control or control_address(config_path(context)), "POST", "/cache/purge", _TIMEOUT, body)
    if status != 200:
        raise GatewaydError(found.get("error", f"status {status}"))
    click.echo(f"{found['purged']} purged")
