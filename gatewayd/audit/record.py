"""The call record: what is written of every call, refused ones included. An array in msgpack, fields in this order.

What could tell of a person stands apart, in `Personal`, and is sealed with a key of its consumer's (`audit.subjects`):
once that key is destroyed nobody reads it any more, while the chain stays as valid as it was.
"""

from __future__ import annotations

import msgspec

CAPTURED = ":capture"
"""Where in `Exchange.context` the policy `capture` leaves a `Captured`. No instance can have this name."""


class Operation(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What was called. Encoded once per route and generation."""

    route: str = ""
    """"": no route matched."""
    service: str = ""
    template: str = ""
    """The route's path with its parameters unfilled, such as `/v1/policies/{id}`."""
    parameters: list[str] = []
    """Their names, in the order of `Personal.values`."""
    generation: int = 0


class Caller(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Who called, as far as that was found out."""

    consumer: str
    credential: str = ""
    method: str = ""
    """The policy that found out, such as `jwt`."""
    plan: str = ""
    tenant: str = ""
    """The consumer's label `tenant`."""


class Trace(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where the call stands in a trace (W3C Trace Context). Identifiers in hexadecimal."""

    trace_id: str
    span_id: str
    """Of the span that this call is."""
    parent_id: str = ""
    """Of the caller's span; "": the trace begins here."""
    sampled: bool = False
    state: str = ""
    """`tracestate`."""


class Tls(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The caller's TLS connection."""

    version: str = ""
    cipher: str = ""
    fingerprint: str = ""
    """SHA-256 of the caller's certificate in hexadecimal, "" without one."""


class Captured(msgspec.Struct, array_like=True, frozen=True):
    """What a route with the policy `capture` keeps of a call, redacted already. Bodies are cut to their limit."""

    request_headers: list[tuple[bytes, bytes]] = []
    request_body: bytes = b""
    request_cut: bool = False
    reply_headers: list[tuple[bytes, bytes]] = []
    reply_body: bytes = b""
    reply_cut: bool = False
    query: bytes | None = None
    """None: there was none, or it is not wanted."""


class Personal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What could tell of a person."""

    client: str = ""
    """Address of the caller, trusted proxies looked through; masked if so configured."""
    peer: str = ""
    """Address of the connection; "": the same as `client`."""
    values: list[bytes] = []
    """The values of the path's parameters as keyed hashes of 8 bytes: the same for the same value."""
    agent: str = ""
    """User-Agent."""
    captured: Captured | None = None


class Sealed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`Personal`, sealed."""

    subject: bytes
    """Names the key (`audit.subjects`), 16 bytes."""
    text: bytes
    """12 bytes of nonce, then AES-256-GCM of the encoded `Personal` (NIST SP 800-38D); no additional data."""


class Call(msgspec.Struct, array_like=True, frozen=True):
    """One call."""

    at: int
    """When its head was complete: nanoseconds since the epoch."""
    request_id: bytes
    operation: Operation
    caller: Caller | None
    method: bytes
    status: int
    """Of the reply; 499: the caller went away first."""
    code: str
    """Problem code of a refusal made here: the reason of the decision."""
    reason: str
    """Of an upstream failure."""
    verdicts: list[tuple[str, str]] | None
    """What policies decided: instance, and `refused`, `observed`, `failed`, `answered`, or a cache's verdict."""
    target: str
    """Address of the last target tried."""
    attempts: int
    total: int
    """Microseconds from the head to the reply's end."""
    upstream: int
    """Microseconds until the target's reply head; 0: no target was asked, or none answered."""
    bytes_in: int
    bytes_out: int
    listener: str
    scheme: bytes
    host: bytes
    http_version: bytes
    tls: Tls | None
    trace: Trace | None
    personal: Personal | None = None
    """Plain, where sealing is off."""
    sealed: Sealed | None = None


decode_call = msgspec.msgpack.Decoder(Call).decode
"""A record's bytes → `Call`. Raises `msgspec.DecodeError`."""
