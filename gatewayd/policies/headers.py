"""Header fields set, added and removed: on requests before they are sent on, on replies before the caller gets them.

Values may hold `{client}`, `{request_id}`, `{host}`, `{path}`, `{route}`, `{scheme}` and `{param.<name>}`. Fields that
frame messages, belong to one connection or say who asked are the gateway's own and cannot be touched here.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from msgspec import Struct, field

from gatewayd.config.keys import join
from gatewayd.config.model import FieldName, FieldValue
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.placeholders import parts
from gatewayd.core.policy import AccessHook, BuildContext, Hooks, ReplyHook
from gatewayd.errors import ConfigError, Fault
from gatewayd.rfc.headers import FORWARDING, HOP_BY_HOP, REWRITTEN

STACKS = True

_OWN = (HOP_BY_HOP | FORWARDING | REWRITTEN) - {b"x-forwarded-prefix", b"x-real-ip", b"x-client-ip"}
_CONTROLS = bytes([*range(32), 127])

Render = Callable[[Exchange], bytes]

_PLACEHOLDERS: dict[str, Render] = {
    "client": lambda exchange: exchange.client.encode(),
    "request_id": lambda exchange: exchange.request_id,
    "host": lambda exchange: exchange.host,
    "path": lambda exchange: exchange.path,
    "route": lambda exchange: exchange.route.name.encode() if exchange.route else b"",
    "scheme": lambda exchange: exchange.scheme,
}


class Changes(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is done to a list of headers: `remove`, then `set` (instead of what is there), then `add` (beside it)."""

    set: dict[FieldName, FieldValue] = field(default_factory=dict)
    add: dict[FieldName, FieldValue] = field(default_factory=dict)
    remove: list[FieldName] = field(default_factory=list)


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `headers`."""

    request: Changes = Changes()  # what targets get
    reply: Changes = Changes()  # what callers get


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    faults: list[Fault] = []
    on_request = _change(config.request, "request", faults)
    on_reply = _change(config.reply, "reply", faults)
    if faults:
        raise ConfigError(faults)
    if on_request is None and on_reply is None:
        raise ConfigError([Fault("request", "nothing is changed", allowed="set, add or remove in request or reply")])
    sides = [
        f"{side} {said}"
        for side, said in (("request:", _said(config.request)), ("reply:", _said(config.reply)))
        if said
    ]
    return Hooks(_access(on_request), on_reply, explain="; ".join(sides))


def _access(change: ReplyHook | None) -> AccessHook | None:
    if change is None:
        return None

    def access(exchange: Exchange) -> None:
        change(exchange, exchange.headers)

    return access


def _said(changes: Changes) -> str:
    named = {"remove": changes.remove, "set": list(changes.set), "add": list(changes.add)}
    return ", ".join(f"{verb} {' '.join(names)}" for verb, names in named.items() if names)


def _change(changes: Changes, side: str, faults: list[Fault]) -> ReplyHook | None:
    """What does `changes` to a list of headers in place; None if that is nothing."""
    _check_names(changes, side, faults)
    plain: Headers = []
    computed: list[tuple[bytes, Render]] = []
    for key, named in (("set", changes.set), ("add", changes.add)):
        for name, text in named.items():
            try:
                value = _value(text.strip())
            except ValueError as error:
                faults.append(Fault(join((side, key, name)), str(error), allowed=", ".join(_SYNTAX)))
                continue
            if isinstance(value, bytes):
                plain.append((name.lower().encode(), value))
            else:
                computed.append((name.lower().encode(), value))
    dropped = frozenset(name.lower().encode() for name in (*changes.remove, *changes.set))

    def apply(exchange: Exchange, headers: Headers) -> None:
        if dropped:
            headers[:] = [pair for pair in headers if pair[0] not in dropped]
        headers += plain
        for name, render in computed:
            headers.append((name, render(exchange)))

    return apply if dropped or plain or computed else None


def _check_names(changes: Changes, side: str, faults: list[Fault]) -> None:
    seen: set[str] = set()
    for key, names in (("remove", changes.remove), ("set", list(changes.set)), ("add", list(changes.add))):
        for at, name in enumerate(names):
            path = join((side, key, at if key == "remove" else name))
            if name.lower().encode() in _OWN:
                faults.append(Fault(path, "this field is the gateway's own", found=name))
            elif name.lower() in seen:
                faults.append(Fault(path, "this field is changed twice", found=name, allowed="one of remove, set, add"))
            seen.add(name.lower())


_SYNTAX = [*(f"{{{name}}}" for name in _PLACEHOLDERS), "{param.<name>}"]


def _value(text: str) -> bytes | Render:
    """The bytes of a plain value, or what makes them per exchange. Raises `ValueError`."""
    pieces = [(literal.encode(), _render(name) if name else None) for literal, name in parts(text)]
    if all(render is None for _, render in pieces):
        return pieces[0][0]

    def render(exchange: Exchange) -> bytes:
        filled = [literal + (fill(exchange) if fill is not None else b"") for literal, fill in pieces]
        return b"".join(filled).translate(None, _CONTROLS)

    return render


def _render(name: str) -> Render:
    kind, _, param = name.partition(".")
    if kind == "param" and param:
        return lambda exchange: exchange.params.get(param, b"") if exchange.params else b""
    if name not in _PLACEHOLDERS:
        near = get_close_matches(name, _PLACEHOLDERS, n=1)
        raise ValueError(f"no placeholder {{{name}}}" + (f"; did you mean {{{near[0]}}}?" if near else ""))
    return _PLACEHOLDERS[name]
