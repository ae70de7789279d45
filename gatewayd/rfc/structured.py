"""Structured field values (RFC 8941, obsoleted by RFC 9651), read strictly and written in their one form.

Stricter than the RFC: a key that stands twice is refused instead of the last one winning, for not every reader agrees,
and base64 must be in its canonical form. Dates and display strings, which RFC 9651 added, are refused.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple


class Token(str):
    """A token, as opposed to a string (§3.3.4)."""

    __slots__ = ()


Bare = int | Decimal | str | bytes | bool
"""A value without parameters; a `Token` is a `str` too."""
Parameters = dict[str, Bare]


class Item(NamedTuple):
    """A value and its parameters (§3.3)."""

    value: Bare
    parameters: Parameters


class InnerList(NamedTuple):
    """Items in parentheses, and the parameters of them all (§3.1.1)."""

    items: tuple[Item, ...]
    parameters: Parameters


Member = Item | InnerList

_KEY = re.compile(r"([a-z*][a-z0-9_\-.*]*)(=?)")
_PARAMETER = re.compile(r"; *([a-z*][a-z0-9_\-.*]*)(=?)")
_SPACES = re.compile(r" *")
_OWS = re.compile(r"[ \t]*")
_COMMA = re.compile(r",[ \t]*")
_BARE = re.compile(
    r"(?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.]))"
    r"|(?P<integer>-?[0-9]{1,15}(?![0-9.]))"
    r'|(?P<string>"(?:[ !#-\[\]-~]|\\["\\])*")'
    r"|(?P<token>[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*)"
    r"|:(?P<bytes>[A-Za-z0-9+/=]*):"
    r"|\?(?P<boolean>[01])"
)  # §4.2.3.1; no two branches begin alike but the numbers, so matching takes linear time
_ESCAPED = re.compile(r'\\(["\\])')


def dictionary(value: bytes) -> dict[str, Member]:
    """The members of a dictionary (§4.2.2). `value`: all of its field lines, joined by commas. Raises `ValueError`."""
    return _Reader(value.decode("ascii")).dictionary()


class _Reader:
    """What is left of a text, from `at` on."""

    def __init__(self, text: str) -> None:
        self.text = text.strip(" ")
        self.at = 0

    def dictionary(self) -> dict[str, Member]:
        found: dict[str, Member] = {}
        while self.text:
            key, equals = self.take(_KEY).groups()
            if key in found:
                raise ValueError("a key stands twice")
            found[key] = self.member() if equals else Item(True, self.parameters())
            self.take(_OWS)
            if self.at == len(self.text):
                break
            self.take(_COMMA)
        return found

    def member(self) -> Member:
        return self.inner_list() if self.text.startswith("(", self.at) else self.item()

    def inner_list(self) -> InnerList:
        self.at += 1
        items: list[Item] = []
        while True:
            spaces = self.take(_SPACES)[0]
            if self.text.startswith(")", self.at):
                self.at += 1
                return InnerList(tuple(items), self.parameters())
            if items and not spaces:
                raise ValueError("no space between the items of a list")
            items.append(self.item())

    def item(self) -> Item:
        return Item(self.bare(), self.parameters())

    def parameters(self) -> Parameters:
        found: Parameters = {}
        while self.text.startswith(";", self.at):
            key, equals = self.take(_PARAMETER).groups()
            if key in found:
                raise ValueError("a parameter stands twice")
            found[key] = self.bare() if equals else True
        return found

    def bare(self) -> Bare:
        match = self.take(_BARE)
        kind = match.lastgroup or ""
        return _VALUES[kind](match[kind])

    def take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"at character {self.at} stands something else")
        self.at = match.end()
        return match


def _bytes(text: str) -> bytes:
    found = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(found, newline=False).decode() != text:
        raise ValueError("another spelling of base64")
    return found


_VALUES: dict[str, Callable[[str], Bare]] = {
    "decimal": Decimal,
    "integer": int,
    "string": lambda text: _ESCAPED.sub(r"\1", text[1:-1]),
    "token": Token,
    "bytes": _bytes,
    "boolean": lambda text: text == "1",
}


def write(member: Member) -> str:
    """An item or inner list in its one form (§4.1). Raises `ValueError` for a value that has none."""
    if isinstance(member, InnerList):
        return f"({' '.join(map(write, member.items))}){write_parameters(member.parameters)}"
    return _write_bare(member.value) + write_parameters(member.parameters)


def write_parameters(parameters: Parameters) -> str:
    """What stands behind a value (§4.1.1.2)."""
    return "".join(f";{key}" if value is True else f";{key}={_write_bare(value)}" for key, value in parameters.items())


def _write_bare(value: Bare) -> str:
    if isinstance(value, bool):
        return f"?{int(value)}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return _write_decimal(value)
    if isinstance(value, bytes):
        return f":{binascii.b2a_base64(value, newline=False).decode()}:"
    if isinstance(value, Token):
        return value
    if not value.isascii() or not value.isprintable():
        raise ValueError("a string has visible ASCII and spaces only")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write_decimal(value: Decimal) -> str:
    """At least one digit behind the point, at most three, no zeros at the end (§4.1.5)."""
    whole, _, rest = f"{value:.3f}".partition(".")
    return f"{whole}.{rest.rstrip('0') or '0'}"
