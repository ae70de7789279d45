"""`gatewayd top`: what the running daemon does, over and over. It asks the control listener, nothing else."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from gatewayd.cli.commands import config_option, config_path, control_address
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from gatewayd.cli.rates import Frame, Row
    from gatewayd.cli.screen import Consumers
    from gatewayd.server.overview import Overview

_TIMEOUT = 10.0
_WIDE = 160
"""Columns where the output is no terminal."""
_CONSUMERS = 50
_SORTS = ("rps", "p99", "p50", "errors", "bytes", "name")


@click.command()
@config_option
@click.option("--control", metavar="ADDRESS", help="The daemon's control address, if not the configuration's.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds a look.")
@click.option("--sort", type=click.Choice(_SORTS), default="rps", show_default=True, help="What routes are ordered by.")
@click.option("--once", is_flag=True, help="Print one look of that length, all of it, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: as JSON.")
@click.pass_context
def top(context: click.Context, control: str | None, interval: float, sort: str, once: bool, as_json: bool) -> None:
    """Watch routes, consumers, refusals and targets. Keys: s orders by something else, q ends."""
    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    if not once and not sys.stdout.isatty():
        raise click.UsageError("this is no terminal; say --once")
    watch = Watch(control or control_address(config_path(context)), interval, sort)
    if once:
        _print_once(watch, as_json)
    else:
        with contextlib.suppress(KeyboardInterrupt):
            _live(watch)


class Watch:
    """Looks at the daemon behind the control address, again and again."""

    def __init__(self, control: str, interval: float, sort: str) -> None:
        self.control = control
        self.interval = interval
        self.sort = sort
        self.last: Overview | None = None
        self.before: Overview | None = None
        self.trouble = ""
        """Why the last look failed; then what was seen before is shown."""

    def look(self) -> None:
        """Ask how things are. Raises `GatewaydError`."""
        import msgspec

        from gatewayd.server.overview import Overview

        self.before, self.last = self.last, msgspec.convert(self._ask("/v1/top"), Overview)

    def frame(self) -> Frame:
        """What went on between the last two looks."""
        from gatewayd.cli.rates import frame

        assert self.last is not None
        return frame(self.last, self.before, self.sort)

    def consumers(self) -> Consumers:
        """The busiest of the last minute, as the call log has them."""
        from gatewayd.cli.rates import ordered
        from gatewayd.cli.screen import Consumers

        try:
            found = self._ask(f"/v1/stats?by=consumer&from=1m&limit={_CONSUMERS}")
            return Consumers(ordered([_consumer(each) for each in found["rows"]], self.sort), "nobody called yet")
        except GatewaydError as error:
            return Consumers((), str(error))
        except (KeyError, TypeError):
            return Consumers((), "the daemon says something of consumers that this version does not know")

    def turn(self) -> None:
        """Order by the next measure."""
        self.sort = _SORTS[(_SORTS.index(self.sort) + 1) % len(_SORTS)]

    def _ask(self, path: str) -> Any:
        from gatewayd.server.running import ask

        status, found = ask(self.control, "GET", path, _TIMEOUT)
        if status != 200:
            raise GatewaydError(found.get("error", f"status {status}"))
        return found


def _consumer(found: dict[str, Any]) -> Row:
    """A row of `/v1/stats`; `collect.stats.Measures` says what is in it."""
    from gatewayd.cli.rates import Row

    said = found["measures"]
    seconds = said["calls"] / said["per_second"] if said["per_second"] else 1.0
    return Row(
        found["key"],
        said["per_second"],
        said["p50_us"] / 1e6,
        said["p99_us"] / 1e6,
        said["upstream_mean_us"] / 1e6,
        said["client_errors"] / seconds,
        said["errors"] / seconds,
        said["bytes_in"] / seconds,
        said["bytes_out"] / seconds,
    )


def _print_once(watch: Watch, as_json: bool) -> None:
    from rich.console import Console

    from gatewayd.cli.screen import draw

    watch.look()
    time.sleep(watch.interval)
    watch.look()
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(watch.frame()))
        return
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print(draw(watch.frame(), watch.consumers(), watch.sort, console.width))


def _live(watch: Watch) -> None:
    """Until q or Ctrl-C. A daemon that does not answer is waited for, and said so."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False)
    watch.look()  # one that is not there at all is an error
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        key = ""
        while key != "q":
            live.update(_screen(watch, console), refresh=True)
            key = pressed(watch.interval)
            if key == "s":
                watch.turn()
                continue
            try:
                watch.look()
                watch.trouble = ""
            except GatewaydError as error:
                watch.trouble = str(error)


def _screen(watch: Watch, console: Console) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from gatewayd.cli.screen import Consumers, draw

    if not watch.trouble:
        return draw(watch.frame(), watch.consumers(), watch.sort, console.width, console.height)
    said = Text(watch.trouble, "bold red", no_wrap=True, overflow="ellipsis")
    return Group(said, draw(watch.frame(), Consumers(), watch.sort, console.width, console.height - 1))


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """What waits so many seconds for a key, and tells it: "" for none. The terminal is as it was afterwards."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield _nobody_presses
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _nobody_presses(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _pressed(seconds: float) -> str:
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if ready else ""
