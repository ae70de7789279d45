"""The command line. Exit codes: 0 fine, 1 failed, 2 wrong usage or a configuration that cannot be used."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gatewayd import __version__
from gatewayd.core.descriptors import fill_standard
from gatewayd.errors import ConfigError, Fault, GatewaydError

if TYPE_CHECKING:
    from gatewayd.config.model import Document
    from gatewayd.gateway.snapshot import Snapshot
    from gatewayd.server.prepare import Rules

DEFAULT_CONFIG = "conf.toml"
FAILED, WRONG = 1, 2
_RELOAD_TIMEOUT = 300.0


def main() -> None:
    """Run the command that the arguments name, `run` if they name none."""
    fill_standard()
    try:
        if status := cli.main(prog_name="gatewayd", standalone_mode=False):  # what `context.exit` was told, else None
            sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG)
    except click.Abort:
        sys.exit(FAILED)
    except ConfigError as error:
        _print_faults(error)
        sys.exit(WRONG)
    except (GatewaydError, OSError) as error:
        _fail(str(error))


def _fail(text: str, code: int = FAILED) -> NoReturn:
    click.echo(f"gatewayd: {text}", err=True)
    sys.exit(code)


def _print_faults(error: ConfigError) -> None:
    for fault in error.faults:
        click.echo(str(fault), err=True)


def _remember_path(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.find_root().obj = value


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-c`, before or behind the command's name."""
    text = f"The configuration, {DEFAULT_CONFIG} if not given."
    return click.option("-c", "--config", metavar="FILE", expose_value=False, callback=_remember_path, help=text)(
        command
    )


def config_path(context: click.Context) -> str:
    """The configuration's file, as `-c` names it."""
    return context.find_root().obj or DEFAULT_CONFIG


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@click.option("-t", "--test", is_flag=True, help="Only check the configuration.")
@click.version_option(__version__, "-V", "--version", prog_name="gatewayd")
@click.pass_context
def cli(context: click.Context, test: bool) -> None:
    """An API gateway: proxies HTTP to services by the routes of a configuration file."""
    if context.invoked_subcommand is None:
        context.invoke(check if test else run)
    elif test:
        raise click.UsageError("-t stands for the command check; name no other")


@cli.command()
@config_option
@click.pass_context
def run(context: click.Context) -> None:
    """Serve until told to stop by SIGTERM (drain), Ctrl-C (drain) or SIGQUIT (now)."""
    from gatewayd.server import log
    from gatewayd.server.supervisor import Supervisor

    log.set_up("supervisor")
    path = config_path(context)

    async def supervise() -> None:
        await Supervisor(path, os.environ, _rules).run()

    asyncio.run(supervise())


def _rules() -> Rules:
    """What the data path asks of a configuration. A start finds it out by starting, and does not pay for the import."""
    from gatewayd.gateway.build import verify
    from gatewayd.gateway.chains import CONFIGS
    from gatewayd.server.prepare import Rules

    return Rules(CONFIGS, verify)


@cli.command()
@config_option
@click.pass_context
def check(context: click.Context) -> None:
    """Say everything that is wrong with the configuration; as strict as a start."""
    from gatewayd.server.prepare import prepare
    from gatewayd.server.running import held

    path = config_path(context)
    for warning in prepare(path, os.environ, _rules(), held).warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{path}: fine")


@cli.command()
@config_option
@click.option("--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's.")
@click.pass_context
def reload(context: click.Context, control: str | None) -> None:
    """Have the running daemon load its configuration again, and say how that went."""
    from gatewayd.server.running import ask

    status, found = ask(control or control_address(config_path(context)), "POST", "/reload", _RELOAD_TIMEOUT)
    if status == 200:
        click.echo(f"generation {found['generation']} serves")
        return
    for fault in found.get("faults", ()):
        click.echo(str(Fault(**fault)), err=True)
    text = found.get("error", "the daemon serves on with the configuration it had")
    _fail(text, WRONG if "faults" in found else FAILED)


def control_address(path: str) -> str:
    """The control address in the configuration, even if the rest of that is of no use.

    Raises `ConfigError` if nothing can be read there: the daemon asked would be anyone's.
    """
    from gatewayd.config.load import load
    from gatewayd.config.model import Control

    try:
        control = load(path).document.control
    except ConfigError:
        address = _address_in(path)
        if address is None:
            raise
        control = Control(address=address or Control().address)
    if not control.enabled:
        raise GatewaydError("the control listener is turned off; signals work without (SIGHUP reloads)")
    return control.address


def _address_in(path: str) -> str | None:
    """The control address that stands in the file, "" if none does; None if it is no TOML."""
    import tomllib

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (OSError, ValueError):
        return None
    try:
        found = table["control"]["address"]
    except (KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


@cli.command()
@config_option
@click.option("--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's.")
@click.option("--json", "as_json", is_flag=True, help="As the daemon says it.")
@click.pass_context
def status(context: click.Context, control: str | None, as_json: bool) -> None:
    """Show how the running daemon is: workers, listeners, targets, the last reload."""
    import json

    from gatewayd.cli.tables import print_status
    from gatewayd.server.running import ask

    code, found = ask(control or control_address(config_path(context)), "GET", "/status", timeout=10.0)
    if code != 200:
        _fail(found.get("error", f"status {code}"))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_status(found)


@cli.command()
@config_option
@click.pass_context
def routes(context: click.Context) -> None:
    """List the routes of the configuration."""
    from gatewayd.cli.tables import print_routes
    from gatewayd.gateway.explain import route_table

    print_routes(route_table(_snapshot(config_path(context))))


@cli.command()
@config_option
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header the request has.")
@click.option("--from", "client", default="", metavar="ADDRESS", help="Who asks.")
@click.option("--listener", default="", metavar="NAME", help="Where; by default where the URL leads.")
@click.option("--online", is_flag=True, help="Ask other services who calls, where policies do.")
@click.pass_context
def explain(
    context: click.Context, method: str, url: str, headers: tuple[str, ...], client: str, listener: str, online: bool
) -> None:
    """Say what would become of a request, without sending it."""
    from gatewayd.gateway import explain as explaining

    snapshot = _snapshot(config_path(context))
    pairs = [_header(text) for text in headers]
    where = listener or _listener_for(url, snapshot.document)
    for line in explaining.explain(snapshot, where, method, url, pairs, _client(client), online).lines():
        click.echo(line)


def _snapshot(path: str) -> Snapshot:
    """What a worker would serve."""
    from gatewayd.config.faults import placed
    from gatewayd.config.load import load
    from gatewayd.errors import ConfigError
    from gatewayd.gateway.build import Ground, build
    from gatewayd.gateway.chains import CONFIGS

    loaded = load(path, os.environ, CONFIGS)
    try:
        return build(loaded.document, Ground(locate=loaded.locate))
    except ConfigError as error:
        raise ConfigError(placed(error.faults, (), loaded.locate)) from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r}: a header is written 'Name: value'")
    return name.strip(), value.strip()


def _client(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise click.UsageError(f"--from {text!r}: no IP address") from None


def _listener_for(url: str, document: Document) -> str:
    """The listener with the URL's scheme and port; the first, if none has both."""
    from urllib.parse import urlsplit

    from gatewayd.config.address import parse

    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        parts, port = urlsplit(""), 0
    fitting = [name for name, each in document.listeners.items() if (each.tls is not None) == (parts.scheme == "https")]
    exact = [name for name in fitting if parse(document.listeners[name].address).port == port]
    return (exact or fitting or list(document.listeners))[0]


@cli.command()
def version() -> None:
    """Print the versions of gatewayd and of what its speed comes from."""
    import platform
    from importlib.metadata import version as version_of

    parts = [f"{name} {version_of(name)}" for name in ("uvloop", "msgspec")]
    click.echo(
        f"gatewayd {__version__} ({platform.python_implementation()} {platform.python_version()}, {', '.join(parts)})"
    )


@cli.command()
@config_option
@click.pass_context
def demo(context: click.Context) -> None:
    """Start a small insurer's services behind a gateway, and print commands to try."""
    from gatewayd.demo import main as start

    start(context.find_root().obj or "")


@cli.group()
def config() -> None:
    """About the configuration itself."""


@config.command()
def schema() -> None:
    """Print the JSON Schema of configurations, for editors."""
    import json

    from gatewayd.config.schema import schema as make
    from gatewayd.gateway.chains import CONFIGS

    click.echo(json.dumps(make(CONFIGS), indent=2))


@config.command()
@config_option
@click.option("--effective", is_flag=True, help="With every default filled in.")
@click.pass_context
def show(context: click.Context, effective: bool) -> None:
    """Print the configuration as one TOML text: includes joined, overrides made, secrets as they were written."""
    from gatewayd.config.load import load
    from gatewayd.config.show import effective as render
    from gatewayd.gateway.chains import CONFIGS

    if not effective:
        raise click.UsageError("say --effective: the configuration as it was written is in its files")
    click.echo(render(load(config_path(context), os.environ, CONFIGS), CONFIGS), nl=False)
