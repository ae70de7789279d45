"""Path templates and host patterns as routes write them, taken apart once at load.

A path template is made of segments: literals, parameters `{id}`, typed ones `{id:int}`, `{id:uuid}`,
`{id:slug}`, patterns `{id:/regex/}`, any of these with text around it (`{name}.pdf`), and at the end a
tail `{rest*}` or `*`. `docs/routing.md` says what each of them matches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatewayd.errors import ConfigError, Fault, RequestError
from gatewayd.gateway.segment import Pattern, is_kind, make_pattern
from gatewayd.rfc.host import check_host
from gatewayd.rfc.path import PathRules, is_plain, normalise

MAX_SEGMENTS = 64
"""Segments of a template. Matching recurses once per segment in the worst case."""

Segment = bytes | Pattern | None
"""A literal, a pattern, or None for a plain parameter."""

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::(/.+?/|[^{}/*]+)|(\*))?\}")
_MARK = "\x00"
"""Stands for a parameter while the text around it is looked at."""
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_ANY_REGEX = frozenset((".*", ".+", "[^/]*", "[^/]+"))
_SYNTAX = "{name}, {name:int}, {name:/regex/}, {name*} at the end"
_LENIENT = PathRules(encoded_slash="keep", semicolon="keep")


@dataclass(frozen=True, slots=True)
class Template:
    """A path template. `segments` leave the tail out; `names` are the parameters', a named tail's last."""

    segments: tuple[Segment, ...]
    names: tuple[str, ...] = ()
    tail: bool = False
    literal: bytes = b""
    """The whole path where it has no parameter and no tail, else b""."""


def parse_template(text: str, where: str) -> Template:
    """Take `text` apart. Raises `ConfigError` with one fault, at the key `where`."""
    try:
        return _parse(text)
    except _BadTemplate as bad:
        fault = Fault(where, bad.message, repr(bad.found or text), bad.allowed, bad.hint)
        raise ConfigError([fault]) from None


class _BadTemplate(Exception):
    def __init__(self, message: str, found: str = "", allowed: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.found = found
        self.allowed = allowed
        self.hint = hint


def _parse(text: str) -> Template:
    if text.isascii() and is_plain(literal := text.encode("ascii")) and "*" not in text:
        return Template(_split(literal), literal=literal)
    if not text.startswith("/") or _MARK in text:
        raise _BadTemplate("a path begins with a slash and has no control characters")
    parameters = list(_PARAMETER.finditer(text))
    skeleton, tail = _without_tail(_PARAMETER.sub(_MARK, text), parameters)
    names = tuple(parameter[1] for parameter in parameters)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _BadTemplate("two parameters have the same name", twice)
    path = _normal(skeleton)
    if not parameters and not tail:
        return Template(_split(path), literal=path)
    left = iter(parameters)
    pieces = _split(path) if path else ()
    segments = tuple(_segment(piece, next(left)) if _MARK.encode() in piece else piece for piece in pieces)
    return Template(segments, names, tail)


def _split(path: bytes) -> tuple[bytes, ...]:
    segments = tuple(path.split(b"/")[1:])
    if len(segments) > MAX_SEGMENTS:
        raise _BadTemplate(f"a path has at most {MAX_SEGMENTS} segments", str(len(segments)))
    return segments


def _without_tail(skeleton: str, parameters: list[re.Match[str]]) -> tuple[str, bool]:
    """The skeleton less its tail, and whether there was one; everything a skeleton may not hold is
    refused.
    """
    if "{" in skeleton or "}" in skeleton:
        raise _BadTemplate("a brace is no part of a parameter", allowed=_SYNTAX)
    head, _, last = skeleton.rpartition("/")
    tail = last == "*" or (last == _MARK and parameters[-1][3] is not None)
    stars = skeleton.count("*") + sum(parameter[3] is not None for parameter in parameters)
    if stars > tail:
        raise _BadTemplate("a tail is the whole last segment", allowed="/* or /{name*} at the end, {name} elsewhere")
    skeleton = head if tail else skeleton
    for segment in skeleton.split("/"):
        if segment.count(_MARK) > 1:
            raise _BadTemplate("a segment has two parameters", allowed="one parameter per segment")
    return skeleton, tail


def _normal(skeleton: str) -> bytes:
    """The skeleton in bytes, its non-ASCII text escaped. A path that no normalised one equals is refused."""
    if not skeleton:
        return b""
    path = _NON_ASCII.sub(lambda octet: b"%%%02X" % octet[0][0], skeleton.encode())
    # Any plain character does for a parameter: its neighbours decide whether the path is normal.
    shown = path.replace(_MARK.encode(), b"x")
    try:
        normal = normalise(shown, _LENIENT)
    except RequestError as error:
        raise _BadTemplate(f"no request has such a path: {error.detail}") from None
    if normal != shown:
        raise _BadTemplate("no request has such a path once it is normalised", hint=f"it becomes {normal.decode()}")
    return path


def _segment(piece: bytes, parameter: re.Match[str]) -> Segment:
    prefix, _, suffix = piece.partition(_MARK.encode())
    kind, regex = parameter[2], ""
    if kind is None:
        kind = "any"
    elif kind.startswith("/"):
        kind, regex = "regex", kind[1:-1]
        if regex in _ANY_REGEX:
            kind, regex = "any", ""
    elif not is_kind(kind):
        allowed = "int, uuid, slug, /regex/"
        raise _BadTemplate(f"the parameter {parameter[1]} has an unknown type", kind, allowed)
    if kind == "any" and not prefix and not suffix:
        return None
    try:
        return make_pattern(prefix, kind, regex, suffix)
    except ValueError as error:
        raise _BadTemplate(f"the regex of {parameter[1]} is not valid: {error}", regex) from None


def parse_host(text: str, where: str) -> bytes:
    """A host pattern in its one spelling: `name` or `*.name`. Raises `ConfigError` with one fault, at
    `where`.
    """
    name = text.removeprefix("*.")
    try:
        host = check_host(name.encode("ascii"))
    except UnicodeEncodeError:
        fault = Fault(where, "a host is written in ASCII", repr(text), hint="write the xn-- form")
    except RequestError as error:
        fault = Fault(where, error.detail, repr(text), "api.example.com, *.example.com; none for any host")
    else:
        bare = host_name(host)
        if bare == host and not (text.startswith("*.") and is_address(bare)):
            return b"*." + host if text.startswith("*.") else host
        allowed = "a name or an address; *. only before a name"
        fault = Fault(
            where, "a host pattern has no port" if bare != host else "not a host pattern", repr(text), allowed
        )
    raise ConfigError([fault])


def host_name(host: bytes) -> bytes:
    """`host` (as `check_host` returns it) without its port."""
    if host.startswith(b"["):
        return host[: host.index(b"]") + 1]
    return host.partition(b":")[0]


def is_address(name: bytes) -> bool:
    """Whether a host without port is an IP address: no other name ends in a number (`check_host`)."""
    return name.startswith(b"[") or name.rpartition(b".")[2].isdigit()
