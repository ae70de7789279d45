"""What a single value of the configuration may be: numbers with a range, names, addresses, files."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gatewayd.config.units import Duration, Size

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Status = Annotated[int, Meta(ge=100, le=599)]

# msgspec compares only its own number types: ranges of unit types ride in `extra` (see `config.convert`).
Span = Annotated[Duration, Meta(extra={"gt": 0})]
Bytes = Annotated[Size, Meta(extra={"gt": 0})]

_TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*)"

Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        extra={"allowed": "1 to 64 letters, digits, dots, dashes, underscores"},
    ),
]
Token = Annotated[str, Meta(pattern=rf"^{_TCHARS}$", extra={"allowed": "a token (RFC 9110 §5.6.2)"})]
FieldName = Annotated[str, Meta(pattern=rf"^{_TCHARS}$", extra={"allowed": "a header name, such as X-Api-Version"})]
FieldValue = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]*$",
        extra={"allowed": "a header value: no line breaks, no control characters"},
    ),
]
Method = Annotated[
    str, Meta(pattern=rf"^{_TCHARS}$", extra={"allowed": "a method, in capitals as it is sent, such as GET"})
]
Protocol = Annotated[
    str,
    Meta(pattern=rf"^{_TCHARS}(/{_TCHARS})?$", extra={"allowed": 'a protocol such as "websocket", or "*"'}),
]
HostPattern = Annotated[
    str,
    Meta(
        pattern=rf"^(\*\.)?{_HOST}$",
        extra={"allowed": '"api.example.com" or "*.example.com", without a port'},
    ),
]
SentHost = Annotated[
    str,
    Meta(pattern=rf"^{_HOST}(:[0-9]{{1,5}})?$", extra={"allowed": '"preserve", "target" or a host to send'}),
]
ProbeHost = Annotated[
    str,
    Meta(pattern=rf"^({_HOST}(:[0-9]{{1,5}})?)?$", extra={"allowed": 'a host such as "api.example.com", or ""'}),
]
ServerName = Annotated[
    str,
    Meta(
        pattern=r"^([0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+)?$",
        extra={"allowed": 'a host name or IP address, without a port, or ""'},
    ),
]
HashOn = Annotated[
    str,
    Meta(
        pattern=rf"^(ip|header:{_TCHARS}|cookie:{_TCHARS})$",
        extra={"allowed": '"ip", "header:<name>", "cookie:<name>"'},
    ),
]
Prefix = Annotated[
    str,
    Meta(pattern=r"^(/[^\x00-\x20?#\\\x7f]*)?$", extra={"allowed": 'a path prefix such as "/legacy", or ""'}),
]
File = Annotated[str, Meta(extra={"file": True})]
"""A file name; a relative one counts from the directory of the file it stands in."""


Address = Annotated[str, Meta(extra={"allowed": '"host:port", "[::1]:port" or "unix:/path"'})]
PathTemplate = Annotated[str, Meta(extra={"allowed": 'a path such as "/v1/claims/{id}"'})]
Balance = Literal["p2c_ewma", "round_robin", "least_requests", "consistent_hash"]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of `conf.toml`; unknown keys are errors."""
