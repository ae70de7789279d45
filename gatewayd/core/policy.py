"""What a policy is to the data path: a few closures, made at load time.

A policy is one file in `policies/` with a docstring, a `Config` (a frozen msgspec struct), `STACKS` and
`build(config, context) -> Hooks`. A refusal is a value (`Reply`), never an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.exchange import Exchange, Headers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer made by the gateway itself. `code` is the stable problem code, "" if it is no refusal."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    code: str = ""


Verdict = Reply | None
AccessHook = Callable[[Exchange], "Verdict | Awaitable[Verdict]"]
"""None lets the exchange go on; a `Reply` ends it there."""
ReplyHook = Callable[[Exchange, Headers], None]
"""May change the reply's header list in place; `exchange.status` holds the status. Runs on every reply of the route,
refusals included."""
LogHook = Callable[[Exchange], None]
"""Runs exactly once, after the reply; must not raise or wait."""
Handler = Callable[[Exchange], None]
"""Answers an exchange that every access hook let through."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a policy does, None where it does nothing. `explain` is one line for `gatewayd explain`."""

    access: AccessHook | None = None
    reply: ReplyHook | None = None
    log: LogHook | None = None
    explain: str = ""


@dataclass(slots=True)
class BuildContext:
    """What a policy's `build` may lean on."""

    instance: str = ""
    """Name of the table `policies.<instance>`."""
    route: str = ""
    """Name of the route it is built for."""
    clock: Clock = field(default_factory=SystemClock)
    kept: dict[tuple[str, str], Any] = field(default_factory=dict)

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """The object `name` of this instance, carried over reloads (counters, pools); made on first use."""
        key = (self.instance, name)
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found


class Route:
    """A route as compiled for serving: all decisions that do not depend on the request are made."""

    __slots__ = (
        "access",
        "body_limit",
        "handler",
        "hosts",
        "log",
        "name",
        "path",
        "reply",
        "service",
        "slot",
        "upgrades",
    )

    def __init__(self, name: str, handler: Handler) -> None:
        self.name = name
        self.handler = handler
        self.service = ""
        self.path = ""  # the template
        self.hosts: tuple[str, ...] = ()
        self.access: tuple[tuple[str, AccessHook], ...] = ()  # (policy instance, hook), in ORDER
        self.reply: tuple[ReplyHook, ...] = ()
        self.log: tuple[LogHook, ...] = ()
        self.slot = 0  # index of its row in shared memory
        self.body_limit = 0  # bytes; 0: none
        self.upgrades: frozenset[bytes] = frozenset()  # {b"*"}: any
