"""The one spelling of a path (RFC 3986 §6.2.2): what routes are matched on, lists are checked on, and
targets are sent.

A path that some upstream could read differently is not passed on with a guess but refused. In order:
escapes of unreserved characters are decoded and the others get upper-case hex; characters that no URI
may hold raw but browsers send (`"<>[]^{|}` and the backtick) become escapes; empty segments are merged;
dot segments are resolved. The result is a fixed point: normalising it again changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gatewayd.errors import RequestError

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # RFC 3986 §2.3

_PLAIN_CHARACTERS = rb"\-A-Za-z0-9_~!$&'()*+,=:@"
"""pchar (RFC 3986 §3.3) less "%", ";" and "." (a dot may not begin a plain segment)."""

_PLAIN_BYTES = bytes(byte for byte in range(256) if re.fullmatch(rb"[%b./]" % _PLAIN_CHARACTERS, bytes((byte,))))
_QUERY_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"#\\")


def _only(allowed: bytes) -> bytes:
    """A table by which `translate` leaves a text of `allowed` bytes as it is; it changes every other byte."""
    return bytes(byte if byte in allowed else byte ^ 1 for byte in range(256))


_PLAIN, _QUERY = _only(_PLAIN_BYTES), _only(_QUERY_BYTES)


def is_plain(path: bytes) -> bool:
    """Whether `path` plainly is its own normal form under any rules. In linear time, without a regular expression:
    possessive ones go wrong before Python 3.11.4, and others can take long.

    `find`, for `in` makes and forgets an exception when it looks for bytes in bytes: 0.17 µs each instead of 0.05.
    """
    return path[:1] == b"/" and path.translate(_PLAIN) == path and path.find(b"//") < 0 and path.find(b"/.") < 0


def is_clean_query(query: bytes) -> bool:
    """Whether `query` may pass: visible ASCII without `#` and `\\`, and no `%00`."""
    return query.translate(_QUERY) == query and query.find(b"%00") < 0


@dataclass(frozen=True, slots=True)
class PathRules:
    """What becomes of the odd spellings on which servers differ (`config.model.Paths`, value for value)."""

    encoded_slash: Literal["refuse", "keep"] = "refuse"
    """`%2F`: 400, or data inside its segment."""
    semicolon: Literal["refuse", "keep"] = "refuse"
    """`;` and `%3B`: 400, or kept as they are."""
    empty_segments: Literal["merge", "refuse"] = "merge"
    """`//`: taken for `/`, or 400."""


def split_target(target: bytes, limit: int = 0) -> tuple[bytes, bytes | None]:
    """Path and query (None without "?") of an origin-form target (RFC 9112 §3.2.1), neither normalised.

    `limit` is the largest target taken, in bytes; 0: any. Raises `RequestError`: 414 `target_too_long`;
    400 `target_fragment`, `target_bad_character` (control, space, raw non-ASCII), `query_backslash`,
    `query_nul`.
    """
    if limit and len(target) > limit:
        raise RequestError(414, "target_too_long", f"the target is longer than {limit} bytes")
    path, mark, query = target.partition(b"?")
    if b"#" in target:
        raise RequestError(400, "target_fragment", "the target has a fragment")
    if not mark:
        return path, None
    if not is_clean_query(query):
        raise _query_fault(query)
    return path, query


def _query_fault(query: bytes) -> RequestError:
    if b"\\" in query:
        return RequestError(400, "query_backslash", "the query has a backslash")
    if b"%00" in query:
        return RequestError(400, "query_nul", "the query has an encoded NUL")
    return RequestError(400, "target_bad_character", "the query has a control, space or non-ASCII character")


def normalise(path: bytes, rules: PathRules) -> bytes:
    """The one spelling of `path`, a path that begins with "/" and has no query.

    Raises `RequestError` 400 with a code: `target_malformed`, `target_fragment`, `target_bad_character`,
    `path_backslash`, `path_bad_escape`, `path_bad_utf8`, `path_control_character`, `path_encoded_slash`,
    `path_semicolon`, `path_empty_segment`, `path_outside_root`, `path_hidden_dots`.
    """
    if is_plain(path):
        return path
    if not path.startswith(b"/"):
        raise RequestError(400, "target_malformed", "the path does not begin with a slash")
    path = _ODD.sub(_respell, path)
    if b"%" in path:
        _check_escapes(path, rules)
    if b";" in path and rules.semicolon == "refuse":
        raise RequestError(400, "path_semicolon", "the path has a semicolon")
    if b"//" in path:
        if rules.empty_segments == "refuse":
            raise RequestError(400, "path_empty_segment", "the path has an empty segment")
        path = _SLASHES.sub(b"/", path)
    if b"/." in path:
        path = _without_dot_segments(path)
    if _HIDDEN_DOTS.search(path):
        raise RequestError(400, "path_hidden_dots", "a server could take a segment for . or ..")
    return path


_ODD = re.compile(rb"%%(?:[0-9A-Fa-f]{2})?|[^%b./;]" % _PLAIN_CHARACTERS)
_SLASHES = re.compile(rb"//+")
_HIDDEN_DOTS = re.compile(rb"(?:/|%2F)\.\.?(?:/|%2F|;|%3B|\Z)")
"""`..;x` is `..` to servers with path parameters, `..%2F` to those that decode first."""
_ESCAPED_RUN = re.compile(rb"(?:%[89A-F][0-9A-F])+")
_ESCAPED_C1 = re.compile(rb"%C2%[89]")
"""U+0080 to U+009F, control characters too."""
_REFUSED = frozenset((*range(0x20), 0x7F, 0x5C))
"""Octets without a spelling: controls and the backslash."""
_RAW_IN_BROWSERS = frozenset(b'"<>[]^`{|}')


def _spelling(byte: int) -> bytes:
    return bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte


_SPELLINGS = {b"%%%02X" % byte: _spelling(byte) for byte in range(256) if byte not in _REFUSED}
_SPELLINGS |= {bytes((byte,)): b"%%%02X" % byte for byte in _RAW_IN_BROWSERS}


def _respell(match: re.Match[bytes]) -> bytes:
    found = match.group().upper()
    spelling = _SPELLINGS.get(found)
    if spelling is None:
        raise _character_fault(found)
    return spelling


def _character_fault(found: bytes) -> RequestError:
    if found == b"%":
        return RequestError(400, "path_bad_escape", "a percent sign without two hex digits")
    if found in (b"\\", b"%5C"):
        return RequestError(400, "path_backslash", "the path has a backslash")
    if found == b"#":
        return RequestError(400, "target_fragment", "the target has a fragment")
    if len(found) == 3:
        return RequestError(400, "path_control_character", f"the path has the control {found.decode()}")
    return RequestError(400, "target_bad_character", "the path has a control, space or non-ASCII character")


def _check_escapes(path: bytes, rules: PathRules) -> None:
    """Refuse what the rules refuse, and octets that are not UTF-8 (Python's decoder takes no overlong
    form).
    """
    if b"%2F" in path and rules.encoded_slash == "refuse":
        raise RequestError(400, "path_encoded_slash", "the path has an encoded slash")
    if b"%3B" in path and rules.semicolon == "refuse":
        raise RequestError(400, "path_semicolon", "the path has an encoded semicolon")
    # Between two runs stands an ASCII character, which is part of no multi-byte sequence.
    for run in _ESCAPED_RUN.findall(path):
        try:
            bytes.fromhex(run.replace(b"%", b"").decode("ascii")).decode("utf-8")
        except UnicodeDecodeError:
            raise RequestError(400, "path_bad_utf8", "the path's escapes are not UTF-8") from None
    if _ESCAPED_C1.search(path):
        raise RequestError(400, "path_control_character", "the path has a control in U+0080 to U+009F")


def _without_dot_segments(path: bytes) -> bytes:
    """RFC 3986 §5.2.4, but a path that climbs above its root is refused instead of cut."""
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments[1:]:
        if segment == b"..":
            if not kept:
                raise RequestError(400, "path_outside_root", "the path leaves its root")
            kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
