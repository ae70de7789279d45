"""JSON Web Signatures in compact form (RFC 7515), read strictly: what could be read in two ways is refused.

Libraries decode base64 and JSON more leniently than the RFCs allow: padding, stray characters, spare bits that are not
zero, members that stand twice, `NaN`. Each is a second spelling of one token, or one token with two meanings. Whose
signature a token needs is said by the configuration alone: `jku`, `x5u`, `jwk` and `x5c` of a header are not looked at.
"""

from __future__ import annotations

import binascii
import json
from typing import Any, NamedTuple

import orjson

from gatewayd.errors import GatewaydError

LIMIT = 16 * 1024
"""Bytes of a token; more are refused unread."""
DEPTH = 16
"""Objects and arrays within one another; more are refused. Beyond some hundred, JSON libraries give up one by one."""
HEADERS = 256
"""Headers remembered: an issuer uses one and the same for all its tokens, until it changes its key."""
_LONGEST_REMEMBERED = 512


class Refused(GatewaydError):
    """A token, or a part of it, that is not taken. `reason` is for the operator's logs; callers are not told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Header(NamedTuple):
    """What a token says about how it is to be checked."""

    algorithm: str
    kid: str | None
    """Opaque: compared, never looked into."""
    type: str
    """`typ` in lower case, without "application/" (RFC 7515 §4.1.9); "" if there is none."""


class Signed(NamedTuple):
    """A token taken apart. Nothing in it is true before its signature has been checked."""

    header: Header
    payload: bytes
    signature: bytes
    content: bytes
    """What is signed: both first parts and the dot."""


def take_apart(token: bytes) -> Signed:
    """The parts of a token. Raises `Refused`."""
    if len(token) > LIMIT:
        raise Refused("too_large")
    content, dot, signature = token.rpartition(b".")
    head, inner, payload = content.partition(b".")  # one dot more is no base64
    if not dot or not inner:
        raise Refused("malformed")
    return Signed(_headers.get(head) or _read_header(head), decode(payload), decode(signature), content)


_headers: dict[bytes, Header] = {}


def _read_header(head: bytes) -> Header:
    header = header_of(members(decode(head)))
    if len(head) <= _LONGEST_REMEMBERED:
        if len(_headers) >= HEADERS:
            _headers.clear()
        _headers[head] = header
    return header


def header_of(fields: dict[str, Any]) -> Header:
    """What the fields of a header say. Raises `Refused`.

    No extension is understood here, so `crit` is refused whatever it names (RFC 7515 §4.1.11), and `b64` (RFC 7797)
    even without `crit`, for it changes what is signed.
    """
    algorithm, kid, kind = fields.get("alg"), fields.get("kid"), fields.get("typ", "")
    if "crit" in fields or "b64" in fields:
        raise Refused("extension")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None) or not isinstance(kind, str):
        raise Refused("header")
    return Header(algorithm, kid, kind.lower().removeprefix("application/"))


_PADDING = (b"", b"", b"==", b"=")
_CANONICAL_ENDS = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By what the length leaves over four: last characters whose spare bits are zero (RFC 4648 §3.5)."""


def decode(text: bytes) -> bytes:
    """The bytes of base64url without padding (RFC 7515 §2), of which each has one spelling. Raises `Refused`."""
    over = len(text) & 3
    if over and (over == 1 or text[-1] not in _CANONICAL_ENDS[over]):
        raise Refused("encoding")
    try:
        return binascii.a2b_base64(text.translate(_FROM_URL) + _PADDING[over], strict_mode=True)
    except binascii.Error:
        raise Refused("encoding") from None


def encode(data: bytes) -> bytes:
    """base64url without padding."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL, b"=")


_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/***")
"""To the standard alphabet; what that has and ours has not becomes a character of neither."""


def members(data: bytes) -> dict[str, Any]:
    """The members of a JSON object (RFC 8259), as UTF-8. Raises `Refused`.

    orjson takes a third of the time that the decoder below does, but lets members stand twice. Each has a `":` (but for
    white space), so if there are as many of these as members were found, none stands twice; else they are looked at.
    """
    try:
        found = orjson.loads(data)
        if not isinstance(found, dict):
            raise Refused("json")
        if _count(found, DEPTH) != data.translate(None, b" \t\r\n").count(b'":'):
            _decode_uniquely(data.decode())
    except ValueError:
        raise Refused("json") from None
    return found


def _count(value: dict[str, Any] | list[Any], deeper: int) -> int:
    """Members in all of `value`. Raises `Refused` if more than `deeper` objects and arrays are within one another."""
    if not deeper:
        raise Refused("json")
    count, items = (len(value), value.values()) if isinstance(value, dict) else (0, value)
    for item in items:
        if item.__class__ is dict or item.__class__ is list:
            count += _count(item, deeper - 1)
    return count


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Parsers disagree on which of two members of one name counts (RFC 8259 §4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


_decode_uniquely = json.JSONDecoder(object_pairs_hook=_unique).decode
