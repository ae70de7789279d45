"""Request ids: taken over from callers who may bring one, made in the wanted form, sent under the wanted name.

Without this policy the gateway makes ids itself, believes no one else's, and sends `X-Request-Id` both ways.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from gatewayd.config.model import FieldName
from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import AccessHook, BuildContext, Hooks, ReplyHook
from gatewayd.errors import ConfigError, Fault
from gatewayd.rfc.headers import is_withheld, values

STACKS = False

_STANDARD = b"x-request-id"
_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._\-]{1,128}")


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `request_id`."""

    header: FieldName = "X-Request-Id"  # read from callers, sent to targets and, with `echo`, in replies
    accept: Literal["never", "trusted", "always"] = "trusted"  # trusted: from the listener's trusted proxies
    format: Literal["hex", "uuid7"] = "hex"  # of the ids made here
    echo: bool = True  # in replies too


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    name = config.header.lower().encode()
    own_name = name != _STANDARD
    if own_name and is_withheld(name):
        raise ConfigError([Fault("header", "not a field the gateway may use for ids", found=config.header)])
    if not (own_name or config.echo):
        raise ConfigError([Fault("echo", "X-Request-Id stands in every reply", "false", "true, or another header")])
    make = uuid7_maker(context.clock) if config.format == "uuid7" else None
    return Hooks(
        access=_access(name, config.accept, make),
        reply=_teller(name) if own_name and config.echo else None,
        explain=f"{config.format} id in {config.header}, taken over from callers: {config.accept}",
    )


def _access(name: bytes, accept: str, make: Callable[[], bytes] | None) -> AccessHook | None:
    own_name = name != _STANDARD  # the proxy sends x-request-id by itself
    if accept == "never" and make is None and not own_name:
        return None

    def access(exchange: Exchange) -> None:
        brought = None
        if accept == "always" or (accept == "trusted" and exchange.peer_trusted):
            brought = _brought(exchange.headers if own_name else exchange.withheld, name)
        if brought is not None:
            exchange.request_id = brought
        elif make is not None:
            exchange.request_id = make()
        if own_name:
            exchange.headers = [pair for pair in exchange.headers if pair[0] != name]
            exchange.headers.append((name, exchange.request_id))

    return access


def _brought(headers: Headers, name: bytes) -> bytes | None:
    """The caller's id; None if there is none, more than one, or one that cannot stand in logs as it is."""
    found = values(headers, name)
    return found[0] if len(found) == 1 and _ACCEPTABLE.fullmatch(found[0]) else None


def _teller(name: bytes) -> ReplyHook:
    def tell(exchange: Exchange, headers: Headers) -> None:
        headers[:] = [pair for pair in headers if pair[0] != name]
        headers.append((name, exchange.request_id))

    return tell


def uuid7_maker(clock: Clock) -> Callable[[], bytes]:
    """Makes UUIDs that sort by their time (RFC 9562 §5.7). The random part is for uniqueness, not for secrecy.

    Seeded here, behind the fork: workers would otherwise share the generator's state and make the same ids.
    """
    bits = random.Random().getrandbits  # noqa: S311
    wall = clock.wall

    def make() -> bytes:
        milliseconds = int(wall() * 1000)
        chance = bits(74)
        return b"%08x-%04x-7%03x-%04x-%012x" % (
            milliseconds >> 16,
            milliseconds & 0xFFFF,
            chance >> 62,
            0x8000 | (chance >> 48 & 0x3FFF),
            chance & 0xFFFFFFFFFFFF,
        )

    return make
