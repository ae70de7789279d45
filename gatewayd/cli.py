"""The command line. Exit codes: 0 fine, 1 failed, 2 wrong usage or a configuration that cannot be used."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gatewayd import __version__
from gatewayd.errors import ConfigError, Fault, GatewaydError

if TYPE_CHECKING:
    from gatewayd.server.prepare import Rules

DEFAULT_CONFIG = "conf.toml"
FAILED, WRONG = 1, 2
_RELOAD_TIMEOUT = 300.0


def main() -> None:
    """Run the command that the arguments name, `run` if they name none."""
    try:
        cli.main(prog_name="gatewayd", standalone_mode=False)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
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


def _fail(text: str) -> NoReturn:
    click.echo(f"gatewayd: {text}", err=True)
    sys.exit(FAILED)


def _print_faults(error: ConfigError) -> None:
    for fault in error.faults:
        click.echo(str(fault), err=True)


def _remember_path(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.find_root().obj = value


def _config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-c`, before or behind the command's name."""
    text = f"The configuration, {DEFAULT_CONFIG} if not given."
    return click.option(
        "-c", "--config", metavar="FILE", expose_value=False, callback=_remember_path, help=text
    )(command)


def _path(context: click.Context) -> str:
    return context.find_root().obj or DEFAULT_CONFIG


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@_config_option
@click.option("-t", "--test", is_flag=True, help="Only check the configuration.")
@click.pass_context
def cli(context: click.Context, test: bool) -> None:
    """An API gateway: proxies HTTP to services by the routes of a configuration file."""
    if context.invoked_subcommand is None:
        context.invoke(check if test else run)
    elif test:
        raise click.UsageError("-t stands for the command check; name no other")


@cli.command()
@_config_option
@click.pass_context
def run(context: click.Context) -> None:
    """Serve until told to stop by SIGTERM (drain), Ctrl-C (drain) or SIGQUIT (now)."""
    from gatewayd.server import log
    from gatewayd.server.supervisor import Supervisor

    log.set_up("supervisor")
    path = _path(context)

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
@_config_option
@click.pass_context
def check(context: click.Context) -> None:
    """Say everything that is wrong with the configuration; as strict as a start."""
    from gatewayd.server.prepare import prepare
    from gatewayd.server.running import held

    path = _path(context)
    prepare(path, os.environ, _rules(), held)
    click.echo(f"{path}: fine")


@cli.command()
@_config_option
@click.option(
    "--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's."
)
@click.pass_context
def reload(context: click.Context, control: str | None) -> None:
    """Have the running daemon load its configuration again, and say how that went."""
    from gatewayd.server.running import ask

    status, found = ask(control or _control_address(_path(context)), "POST", "/reload", _RELOAD_TIMEOUT)
    if status == 200:
        click.echo(f"generation {found['generation']} serves")
        return
    for fault in found.get("faults", ()):
        click.echo(str(Fault(**fault)), err=True)
    _fail(found.get("error", "the daemon serves on with the configuration it had"))


def _control_address(path: str) -> str:
    """The control address in the configuration, even if the rest of that is of no use."""
    from gatewayd.config.load import load
    from gatewayd.config.model import Control

    try:
        control = load(path).document.control
    except ConfigError:
        control = Control(address=_address_in(path) or Control().address)
    if not control.enabled:
        raise GatewaydError("the control listener is turned off; signals work without (SIGHUP reloads)")
    return control.address


def _address_in(path: str) -> str:
    import tomllib

    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)["control"]["address"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


@cli.command()
@_config_option
@click.option(
    "--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's."
)
@click.option("--json", "as_json", is_flag=True, help="As the daemon says it.")
@click.pass_context
def status(context: click.Context, control: str | None, as_json: bool) -> None:
    """Show how the running daemon is: workers, listeners, targets, the last reload."""
    import json

    from gatewayd.server.running import ask

    code, found = ask(control or _control_address(_path(context)), "GET", "/status", timeout=10.0)
    if code != 200:
        _fail(found.get("error", f"status {code}"))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print_status(found)


def _print_status(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(
        f"gatewayd {found['version']}, process {found['pid']}, {found['state']}, generation {found['generation']}, "
        f"up {_span(found['uptime_seconds'])}"
    )
    console.print(f"configuration {found['configuration']}, {found['routes']} routes")
    last = found["last_reload"]
    if last is not None:
        console.print(
            f"last reload {'succeeded' if last['succeeded'] else 'failed'}", *last["faults"], sep="\n  "
        )
    workers = [
        (
            each["index"],
            each["pid"],
            each["state"],
            each["generation"],
            (each["edge"] or {}).get("connections", "?"),
            each["restarts"],
            _span(each["uptime_seconds"]),
        )
        for each in found["workers"]
    ]
    _print_table("worker process state generation connections restarts up", workers)
    listeners = [
        (name, each["address"], "yes" if each["tls"] else "no") for name, each in found["listeners"].items()
    ]
    _print_table("listener address tls", listeners)
    _print_table("upstream target available requests failures in-flight", _targets(found["workers"]))


def _targets(workers: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """Each target with what all workers together say of it; `available` is in how many of them it is."""
    sums: dict[tuple[str, str], list[int]] = {}
    for worker in workers:
        for upstream, group in (worker["edge"] or {}).get("upstreams", {}).items():
            for target in group["targets"]:
                row = sums.setdefault((upstream, target["address"]), [0, 0, 0, 0, 0])
                told = (target["available"], 1, target["requests"], target["failures"], target["in_flight"])
                row[:] = [have + more for have, more in zip(row, told, strict=True)]
    return [(*key, f"{row[0]}/{row[1]}", *row[2:]) for key, row in sums.items()]


def _print_table(columns: str, rows: Sequence[tuple[object, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(*columns.split(), box=box.SIMPLE)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(highlight=False).print(table)


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0s"


@cli.command()
def version() -> None:
    """Print the versions of gatewayd and of what its speed comes from."""
    import platform
    from importlib.metadata import version as version_of

    parts = [f"{name} {version_of(name)}" for name in ("uvloop", "msgspec")]
    click.echo(
        f"gatewayd {__version__} ({platform.python_implementation()} {platform.python_version()}, "
        f"{', '.join(parts)})"
    )


@cli.command()
@_config_option
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
@_config_option
@click.option("--effective", is_flag=True, help="With every default filled in.")
@click.pass_context
def show(context: click.Context, effective: bool) -> None:
    """Print the configuration as one TOML text: includes joined, overrides made, secrets as they were written."""
    from gatewayd.config.load import load
    from gatewayd.config.show import effective as render
    from gatewayd.gateway.chains import CONFIGS

    if not effective:
        raise click.UsageError("say --effective: the configuration as it was written is in its files")
    click.echo(render(load(_path(context), os.environ, CONFIGS), CONFIGS), nl=False)
