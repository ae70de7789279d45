"""Questions to the running daemon about its calls: the options they share, and how they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import click

from gatewayd.cli.commands import config_option, config_path, control_address
from gatewayd.errors import GatewaydError

TIMEOUT = 60.0
"""Seconds; the daemon itself gives up sooner, and says why."""
_EXPORT_TIMEOUT = 960.0
_FILTERS = {
    "consumer": "Who called.",
    "route": "The route.",
    "service": "The service behind it.",
    "status": "404, 5xx or 400-499.",
    "method": "The HTTP method.",
    "operation": "The route's path, such as /v1/policies/{id}.",
    "code": "The problem code of a refusal.",
    "reason": "Why an upstream failed.",
    "target": "Address of the target.",
    "host": "The host that was asked for.",
    "tenant": "The consumer's tenant.",
    "credential": "The credential it was known by.",
    "client": "The caller's address, as it was kept.",
    "plan": "The plan it called on.",
    "request-id": "The call's id.",
    "trace-id": "The trace it belongs to.",
}
_ONCE = {
    "last": 'Of so long until now, such as "15m".',
    "from": 'Since when: a time, a date, or how long ago such as "15m".',
    "to": "Until when.",
    "text": "What occurs in one of its fields.",
}
_WRONG, _NOT_NOW = 400, 503
Options = Mapping[str, Any]
"""What was said on the command line, by the names of options with underscores."""


class Unavailable(GatewaydError):
    """The daemon cannot answer now; the text says why."""


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which calls, and where the daemon is."""
    for name, text in reversed(_FILTERS.items()):
        command = click.option(f"--{name}", multiple=True, help=text)(command)
    for name, text in reversed(_ONCE.items()):
        command = click.option(f"--{name}", f"{name}_", help=text)(command)
    text = "The daemon's control address, if not the configuration's."
    return config_option(click.option("--control", metavar="ADDRESS", help=text)(command))


def wanted(options: Options) -> list[tuple[str, str]]:
    """The filters among the options as parameters of the control API."""
    many = [(name, value) for name in _FILTERS for value in options[name.replace("-", "_")]]
    many += [("method", value.upper()) for value in options["method"] if not value.isupper()]  # RFC 9110 §9.1
    once = [(name, options[f"{name}_"]) for name in _ONCE if options[f"{name}_"] is not None]
    return [(name.replace("-", "_"), value) for name, value in (*many, *_since(once))]


def _since(once: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """`--last` is `--from` so long ago. Raises `click.UsageError`."""
    given = dict(once)
    last = given.pop("last", None)
    if last is None:
        return given.items()
    for other in ("from", "to"):
        if other in given:
            raise click.UsageError(f"--{other} does not go with --last")
    from gatewayd.config.units import Duration, UnitError

    try:
        Duration.parse(last)
    except UnitError as error:
        raise click.UsageError(f"--last {error}; found {last!r}; allowed: such as 15m, 1h30m or 7d") from None
    return [("from", last), *given.items()]


def control_of(context: click.Context, options: Options) -> str:
    """Where the daemon is asked. Raises `click.UsageError` for what is no address."""
    if not options["control"]:
        return control_address(config_path(context))
    from gatewayd.config import address

    try:
        return str(address.parse(options["control"]))
    except ValueError as error:
        text = f"--control: {error}; allowed: an address such as 127.0.0.1:9901 or unix:/run/gatewayd.sock"
        raise click.UsageError(text) from None


def ask(control: str, path: str, query: Iterable[tuple[str, object]] = (), timeout: float = TIMEOUT) -> Any:
    """What the daemon answers. Raises `click.UsageError` for a wrong question, `Unavailable`, or `GatewaydError`."""
    from gatewayd.server import running

    status, found = running.ask(control, "GET", _address(path, query), timeout)
    return _answer(status, found)


def save(control: str, query: Iterable[tuple[str, object]], file: BinaryIO) -> None:
    """Write an export to `file`. Raises as `ask` does, and `OSError`."""
    from gatewayd.server import running

    status, found = running.fetch(control, _address("/v1/export", query), _EXPORT_TIMEOUT, file)
    _answer(status, found)


def _address(path: str, query: Iterable[tuple[str, object]]) -> str:
    from urllib.parse import urlencode

    text = urlencode([(name, str(value)) for name, value in query])
    return f"{path}?{text}" if text else path


def _answer(status: int, found: Any) -> Any:
    if status == 200:
        return found
    said = found.get("error", f"status {status}")
    faults = found.get("faults", [])
    if status == _WRONG and faults:
        raise click.UsageError("\n".join(_fault(fault) for fault in faults))
    raise Unavailable(said) if status == _NOT_NOW else GatewaydError(said)


def _fault(fault: Mapping[str, Any]) -> str:
    path = fault["path"].replace("_", "-")
    name = "DIMENSION" if path == "by" else f"--{path}"
    text = f"{name} {fault['message']}"
    text += f"; found {fault['found']}" if fault["found"] else ""
    return text + (f"; allowed: {fault['allowed']}" if fault["allowed"] else "")
