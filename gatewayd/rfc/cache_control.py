"""`Cache-Control` and its targeted kin: directives read strictly, and what cannot be read leans to the safe side.

RFC 9111 §5.2, RFC 9213 (`CDN-Cache-Control`), and `Surrogate-Control` of the W3C's note on edge architecture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 2**31
"""Seconds that a longer time counts as (RFC 9111 §1.2.2)."""
INVALID = -1
"""Stands for a number of seconds that is none."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# cache-directive of RFC 9111 §5.2, the comma or end behind it, and the parameters of Surrogate-Control
_DIRECTIVE = re.compile(
    rb'(%b)(?:=(?:(%b)|"((?:[^"\\]|\\.)*)"))?((?:[ \t]*;[ \t]*%b)*)[ \t]*(?:,|\Z)' % (_TOKEN, _TOKEN, _TOKEN),
    re.DOTALL,
)
_BETWEEN = re.compile(rb"[ \t,]*")
_PAIR = re.compile(rb"\\(.)", re.DOTALL)


class Argument(bytes):
    """A directive's argument; `quoted` if it stood in quotes."""

    quoted = False


class Quoted(Argument):
    """An argument that stood in quotes."""

    quoted = True


class Directives(dict[bytes, list[Argument | None]]):
    """Directives by lower-case name, each with the arguments it came with, None for none.

    `malformed`: something stood there that is no directive, so there is no telling what was meant.
    """

    malformed = False

    def seconds(self, name: bytes) -> int | None:
        """The seconds a directive says; None without it, `INVALID` for no whole number or two different ones.

        RFC 9111 §4.2.1 has invalid and repeated ones make a reply stale.
        """
        found = self.get(name)
        if found is None:
            return None
        numbers = {_number(argument) for argument in found}
        return numbers.pop() if len(numbers) == 1 else INVALID

    def fields(self, name: bytes) -> frozenset[bytes] | None:
        """The fields that `no-cache="…"` or `private="…"` is about; None without the directive.

        Empty: it is about the whole reply. So it is if it ever stands without a list in quotes.
        """
        found = self.get(name)
        if found is None:
            return None
        if not all(argument is not None and argument.quoted for argument in found):
            return frozenset()
        return frozenset(field for each in found for part in each.split(b",") if (field := part.strip(b" \t").lower()))  # type: ignore[union-attr]


def _number(argument: Argument | None) -> int:
    if argument is None or not argument.isdigit():
        return INVALID
    return min(int(argument[:18]), LONGEST)


def read_directives(values: Iterable[bytes], target: bytes = b"") -> Directives:
    """The directives of all of a message's `Cache-Control` lines.

    `target` is our name where directives may be meant for one device alone (`max-age=60;name`): others' are left out.
    """
    directives = Directives()
    for value in values:
        at = _BETWEEN.match(value).end()  # type: ignore[union-attr]
        while at < len(value):
            match = _DIRECTIVE.match(value, at)
            if match is None:
                directives.malformed = True
                at = value.find(b",", at) + 1
                if not at:
                    break
            else:
                at = match.end()
                _take(directives, match, target)
            at = _BETWEEN.match(value, at).end()  # type: ignore[union-attr]
    return directives


def _take(directives: Directives, match: re.Match[bytes], target: bytes) -> None:
    name, token, quoted, parameters = match.groups()
    if parameters:
        if not target:
            directives.malformed = True
        elif target not in [parameter.strip(b" \t") for parameter in parameters.split(b";")]:
            return
    argument: Argument | None = None
    if token is not None:
        argument = Argument(token)
    elif quoted is not None:
        argument = Quoted(_PAIR.sub(rb"\1", quoted))
    directives.setdefault(name.lower(), []).append(argument)
