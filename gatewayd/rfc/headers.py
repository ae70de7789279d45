"""Header fields: which may go on, what a name and a value may hold, and small readings of them (RFC 9110 §5 and §7.6).

Lists of names are checked once, when a message comes in: what is withheld then stands beside the headers, so that what
a policy adds later can no longer be confused with what a caller sent, nor be taken away by a `Connection` option.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate

from gatewayd.errors import RequestError

HeaderList = list[tuple[bytes, bytes]]
"""`(lower-case name, value)` in the order of the wire."""

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
        b"http2-settings", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization",
    }
)  # fmt: skip
"""Fields about one connection only (RFC 9110 §7.6.1, §11.7; RFC 7540 §3.2.1). `Trailer` is among them because which
trailers go on is decided anew."""

FORWARDING = frozenset(
    {
        b"forwarded", b"via", b"x-forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-prefix", b"x-forwarded-proto", b"x-forwarded-scheme", b"x-forwarded-server", b"x-forwarded-ssl",
        b"x-real-ip", b"x-request-id", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"client-cert",
        b"client-cert-chain",
    }
)  # fmt: skip
"""Fields by which targets tell who asked for what, and so written by the gateway alone; the last two only by one that
forwards certificates, and taken out by all who end TLS (RFC 9440 §4)."""

OVERRIDES = frozenset(
    {
        b"x-original-url", b"x-rewrite-url", b"x-original-host", b"x-host", b"x-http-host-override", b"x-http-method",
        b"x-http-method-override", b"x-method-override", b"proxy",
    }
)  # fmt: skip
"""Fields that make some targets read another method, path or host than the one that was matched, allowed and signed
here; `Proxy` becomes `HTTP_PROXY` in a CGI environment (CVE-2016-5385)."""

REWRITTEN = frozenset({b"host", b"content-length", b"expect"})
"""Fields whose value is kept in its parsed form and written anew."""

IDENTITY_PREFIXES = (b"x-consumer-", b"x-credential-", b"x-gateway-")
"""Beginnings of the names under which targets are told who calls; no caller can send such a field on, on any route."""

WITHHELD_PREFIXES = (b"x-forwarded-", b"proxy-", *IDENTITY_PREFIXES)
"""Beginnings of names that only the gateway may use towards targets."""

WITHHELD_FROM_REQUESTS = HOP_BY_HOP | FORWARDING | OVERRIDES | REWRITTEN
"""Names never passed on as the caller sent them; `WITHHELD` also knows the prefixes and the underscore twins."""

WITHHELD_FROM_REPLIES = HOP_BY_HOP | {b"content-length", b"x-request-id"}
"""Names never passed on as the target sent them."""

FORBIDDEN_CONNECTION_OPTIONS = (
    frozenset(
        {
            b"authorization", b"cookie", b"cookie2", b"host", b"content-length", b"transfer-encoding", b"content-type",
            b"content-encoding", b"content-range", b"range", b"expect", b"origin", b"cache-control",
        }
    )
    | FORWARDING
)  # fmt: skip
"""Fields meant for the target, so no connection option may name them (RFC 9110 §7.6.1): a caller who does tries to
have the gateway drop what the target decides by."""

FORBIDDEN_TRAILERS = (
    WITHHELD_FROM_REQUESTS
    | WITHHELD_FROM_REPLIES
    | {
        b"age", b"allow", b"authentication-info", b"authorization", b"cache-control", b"clear-site-data",
        b"content-disposition", b"content-encoding", b"content-location", b"content-range", b"content-security-policy",
        b"content-type", b"cookie", b"date", b"expires", b"if-match", b"if-modified-since", b"if-none-match",
        b"if-range", b"if-unmodified-since", b"last-modified", b"location", b"max-forwards", b"origin", b"pragma",
        b"range", b"retry-after", b"set-cookie", b"strict-transport-security", b"vary", b"warning",
        b"www-authenticate",
    }
)  # fmt: skip
"""Fields that change framing, routing, caching, identity or the reading of the content and therefore cannot follow it
(RFC 9110 §6.5.1): a reader that merges trailers into the headers would be misled."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # token of RFC 9110 §5.6.2
_VALUE_BYTES = bytes([9, *range(32, 127), *range(128, 256)])  # field-content of RFC 9110 §5.5: no controls but HTAB
_KNOWN_NAMES_LIMIT = 4096


class WithheldNames(dict[bytes, bool]):
    """`WITHHELD[name]`: whether a lower-case request name is withheld. One dict lookup for every name met before.

    Names come from callers, so only so many are remembered; the ones in everyday use are put in at once, lest a caller
    fill the table before they come.
    """

    def __init__(self, everyday: Iterable[bytes]) -> None:
        super().__init__()
        for name in (*WITHHELD_FROM_REQUESTS, *everyday):
            self[name] = is_withheld(name)

    def __missing__(self, name: bytes) -> bool:
        withheld = is_withheld(name)
        if len(self) < _KNOWN_NAMES_LIMIT and len(name) <= 64:
            self[name] = withheld
        return withheld


def is_withheld(name: bytes) -> bool:
    """Whether a request field of this lower-case name is not passed on as the caller sent it.

    A name with `_` is withheld whatever it says: CGI-style targets read `x_forwarded_for` as `x-forwarded-for`.
    """
    return name in WITHHELD_FROM_REQUESTS or b"_" in name or name.startswith(WITHHELD_PREFIXES)


WITHHELD = WithheldNames(
    b"accept accept-charset accept-encoding accept-language accept-ranges access-control-request-headers "
    b"access-control-request-method authorization baggage cache-control content-disposition content-encoding "
    b"content-language content-type cookie correlation-id date dnt early-data etag from if-match if-modified-since "
    b"if-none-match if-range if-unmodified-since idempotency-key last-event-id link max-forwards origin pragma prefer "
    b"priority range referer sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode "
    b"sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions sec-websocket-key sec-websocket-protocol "
    b"sec-websocket-version soapaction traceparent tracestate upgrade-insecure-requests user-agent x-api-key "
    b"x-correlation-id x-csrf-token x-requested-with".split()
)
"""What the wire asks for each name of a request."""


def is_token(name: bytes) -> bool:
    """Whether `name` can be a field name or a method (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


def is_field_value(value: bytes) -> bool:
    """Whether `value` can stand in a field: no control byte but HTAB, no white space around it (RFC 9110 §5.5)."""
    return not value.translate(None, _VALUE_BYTES) and value == value.strip(b" \t")


def values(headers: HeaderList, name: bytes) -> list[bytes]:
    """All values of `name`, in order."""
    return [value for found, value in headers if found == name]


def one(headers: HeaderList, name: bytes) -> bytes | None:
    """The value of a field that may stand once, None if it is absent. Raises `RequestError` 400 if it is repeated."""
    found = values(headers, name)
    if len(found) > 1:
        raise RequestError(400, "header_repeated", f"{name.decode('ascii', 'replace')} may stand once", close=False)
    return found[0] if found else None


def elements(values: Iterable[bytes]) -> list[bytes]:
    """The elements of a comma-separated list without quoted strings, empty ones left out (RFC 9110 §5.6.1)."""
    return [element for part in b",".join(values).split(b",") if (element := part.strip(b" \t"))]


def connection_options(values: list[bytes]) -> frozenset[bytes]:
    """The options of a message's `Connection` fields, in lower case (RFC 9110 §7.6.1)."""
    known = _COMMON_OPTIONS.get(values[0]) if len(values) == 1 else None
    return known if known is not None else frozenset(element.lower() for element in elements(values))


_COMMON_OPTIONS = {
    spelling: frozenset(elements([spelling.lower()]))
    for spelling in (b"keep-alive", b"Keep-Alive", b"close", b"upgrade", b"Upgrade", b"keep-alive, Upgrade")
}


def vary_on(headers: HeaderList, name: bytes) -> None:
    """Make the reply's `Vary` name `name` too, unless it does or says `*` (RFC 9110 §12.5.5). Fields are merged."""
    named = elements(values(headers, b"vary"))
    if any(element == b"*" or element.lower() == name.lower() for element in named):
        return
    if named:
        headers[:] = [pair for pair in headers if pair[0] != b"vary"]
    headers.append((b"vary", b", ".join([*named, name])))


_date = (0, b"")


def http_date(now: float) -> bytes:
    """`now` (seconds since the epoch) as an IMF-fixdate (RFC 9110 §5.6.7); made once per second."""
    global _date
    second = int(now)
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True).encode())
    return _date[1]
