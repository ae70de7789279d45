"""From the bytes of one complete head to an exchange (RFC 9112 §3–6, RFC 9110 §7).

Whatever two readers could take for two different requests is refused here, so that nothing behind has to ask.
"""

from __future__ import annotations

import re

from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange
from gatewayd.errors import RequestError
from gatewayd.rfc.headers import FORBIDDEN_CONNECTION_OPTIONS, WITHHELD, connection_options
from gatewayd.rfc.host import check_host
from gatewayd.rfc.methods import METHODS
from gatewayd.rfc.path import PathRules, is_plain
from gatewayd.rfc.target import parse_target
from gatewayd.wire.fields import Field, FieldLines, Withheld

_VERSIONS = {b"HTTP/1.1": b"1.1", b"HTTP/1.0": b"1.0"}
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_is_version = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch  # RFC 9112 §2.3
LONGEST_LINES = 1024
"""Bytes of header lines that a connection remembers."""
_HANDLED = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))


def _sort(name: bytes) -> type[Withheld] | None:
    return Withheld if WITHHELD[name] else None


_lines = FieldLines(_sort)
_known = _lines.known.get


class LastLines:
    """The header lines a connection sent last, all of them as one, and what they meant.

    A caller of an API says the same about itself with every request, credentials included: 1.9 µs less for it, 0.1 more
    for one that says something new each time. Lines about a body, an upgrade or a way through proxies never stand here.
    """

    __slots__ = ("headers", "host", "keep_alive", "lines", "version", "withheld")

    def __init__(self) -> None:
        self.lines = b"-"  # no header lines are like this

    def keep(self, exchange: Exchange, lines: bytes, keep_alive: bool) -> None:
        """Remember what was just read into `exchange`."""
        if exchange.body_length or exchange.upgrade or exchange.via or len(lines) > LONGEST_LINES:
            return
        self.lines = lines
        self.version = exchange.http_version
        self.headers = exchange.headers.copy()  # policies change theirs
        self.withheld = exchange.withheld
        self.host = exchange.host
        self.keep_alive = keep_alive


def read_request(
    exchange: Exchange, head: bytes, last: LastLines, rules: PathRules, max_headers: int, max_target: int
) -> bool:
    """Write what a complete `head`, its empty line included, asks for into `exchange`.

    Returns whether the caller wants to keep the connection. `exchange.scheme` is the listener's, `last` the
    connection's. Raises `RequestError`: 400 for what is malformed or ambiguous, 414 and 431 for what is too long, 417,
    501 and 505.
    """
    first, _, lines = head.partition(b"\r\n")
    start = first.split(b" ")
    if len(start) != 3:
        raise RequestError(400, "malformed_request", "the request line is not one method, one target, one version")
    method, target, version = start
    known = _VERSIONS.get(version)
    if known is None or method not in METHODS:
        raise _odd_request_line(method, version)
    exchange.method = method
    exchange.http_version = known
    if len(target) > max_target:
        raise RequestError(414, "target_too_long", f"the target is over {max_target} bytes")
    if lines == last.lines and known == last.version:
        exchange.headers = last.headers.copy()
        exchange.withheld = last.withheld
        exchange.host = last.host
        keep_alive = last.keep_alive
    else:
        keep_alive = _read_lines(exchange, lines, max_headers, known == b"1.1")
        last.keep(exchange, lines, keep_alive)
    if is_plain(target):  # 0.4 µs less than `parse_target` for what most targets are
        exchange.path = target
        return keep_alive
    scheme, authority, exchange.path, exchange.query = parse_target(method, target, rules)
    if authority is not None and method != b"CONNECT":
        _check_authority(exchange, scheme or exchange.scheme, authority)
    return keep_alive


def _read_lines(exchange: Exchange, text: bytes, max_headers: int, modern: bool) -> bool:
    """Read the header lines; whether the caller wants to keep the connection."""
    lines = text[:-4].split(b"\r\n") if len(text) > 2 else []
    if len(lines) > max_headers:
        raise RequestError(431, "too_many_headers", f"more than {max_headers} header fields")
    headers = exchange.headers
    withheld = exchange.withheld
    try:
        for line in lines:
            field = _known(line) or _lines.read(line)
            if field.__class__ is tuple:
                headers.append(field)
            else:
                withheld.append(field)
    except ValueError as error:
        raise RequestError(400, "malformed_request", str(error)) from None
    return _read_withheld(exchange, withheld, modern)


def _odd_request_line(method: bytes, version: bytes) -> RequestError:
    if version not in _VERSIONS and _is_version(version):
        return RequestError(505, "version_not_supported", "HTTP/1.0 and HTTP/1.1 are spoken here")
    if version in _VERSIONS and method.isalpha() and method.isupper() and len(method) <= 32:
        return RequestError(501, "method_not_implemented", "the method is not known here")
    return RequestError(400, "malformed_request", "the request line is malformed")


def _read_withheld(exchange: Exchange, withheld: list[Field], modern: bool) -> bool:
    host: bytes | None = None
    connection: list[bytes] | None = None
    framed = 0
    for name, value in withheld:
        if name == b"host":
            if host is not None:
                raise RequestError(400, "host_repeated", "more than one Host")
            host = value
        elif name == b"connection":
            connection = [*(connection or ()), value]
        elif name == b"content-length":
            framed += 1
            exchange.body_length = _length(value)
        elif name == b"transfer-encoding":
            framed += 1
            if framed == 1:
                exchange.body_length = _transfer_coding(value, modern)
        elif name == b"via":
            exchange.via = exchange.via + b", " + value if exchange.via else value
        elif name == b"expect":
            exchange.expects_continue = _expectation(value, modern)
        elif name == b"upgrade":
            exchange.upgrade = value.lower()
    if framed > 1:
        raise RequestError(400, "ambiguous_framing", "the body is framed twice")
    if host is not None:
        exchange.host = check_host(host)
    elif modern:
        raise RequestError(400, "host_missing", "an HTTP/1.1 request needs one Host")
    if connection is not None:
        return _options(exchange, connection, modern)
    exchange.upgrade = b""  # without the Connection option it is no upgrade (RFC 9110 §7.8)
    return modern


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise RequestError(400, "bad_content_length", "Content-Length is not one number")
    return int(value)


def _transfer_coding(value: bytes, modern: bool) -> int:
    if not modern:
        raise RequestError(400, "ambiguous_framing", "Transfer-Encoding on HTTP/1.0")
    if value.lower() == b"chunked":
        return UNKNOWN_LENGTH
    if not value or b"chunked" in value.lower():
        raise RequestError(400, "ambiguous_framing", "Transfer-Encoding is not one chunked")
    raise RequestError(501, "transfer_coding_not_implemented", "chunked is the one transfer coding known")


def _expectation(value: bytes, modern: bool) -> bool:
    if value.lower() != b"100-continue":
        raise RequestError(417, "expectation_failed", "100-continue is the one expectation known")
    return modern


def _options(exchange: Exchange, values: list[bytes], modern: bool) -> bool:
    options = connection_options(values)
    if exchange.upgrade and (b"upgrade" not in options or not modern):
        exchange.upgrade = b""
    if not options <= _HANDLED:
        if options & FORBIDDEN_CONNECTION_OPTIONS:
            raise RequestError(
                400, "forbidden_connection_option", "Connection names a field that must reach the target"
            )
        exchange.withheld.extend(pair for pair in exchange.headers if pair[0] in options)
        exchange.headers = [pair for pair in exchange.headers if pair[0] not in options]
    return b"close" not in options and (modern or b"keep-alive" in options)


def _check_authority(exchange: Exchange, scheme: bytes, authority: bytes) -> None:
    """An absolute-form target must say what Host says (RFC 9112 §3.2.2 lets it win; two readings are refused here)."""
    if not exchange.host and exchange.http_version == b"1.0":
        exchange.host = authority
    elif _portless(authority, scheme) != _portless(exchange.host, scheme):
        raise RequestError(400, "host_mismatch", "the target's authority and Host differ")


def _portless(host: bytes, scheme: bytes) -> bytes:
    return host.removesuffix(_DEFAULT_PORTS.get(scheme, b":80"))
