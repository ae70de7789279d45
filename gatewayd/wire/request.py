"""From a parsed head to an exchange: the rules that need more than one field (RFC 9112 §3 and §6, RFC 9110 §7).

Whatever two readers could take for two different requests is refused here, so that nothing behind has to ask.
"""

from __future__ import annotations

from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange
from gatewayd.errors import RequestError
from gatewayd.rfc.headers import FORBIDDEN_CONNECTION_OPTIONS, connection_options
from gatewayd.rfc.host import check_host
from gatewayd.rfc.path import PathRules
from gatewayd.rfc.target import parse_target
from gatewayd.wire.heads import MAX_LENGTH, RequestHead

_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_TUNNELLED = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))


class Terms:
    """What a head says about its connection: `keep_alive`, and `continues` if 100 (Continue) is waited for."""

    __slots__ = ("continues", "keep_alive")

    def __init__(self) -> None:
        self.keep_alive = True
        self.continues = False


def fill(exchange: Exchange, head: RequestHead, scheme: bytes, rules: PathRules) -> Terms:
    """Write what `head` asks for into `exchange`; raises `RequestError`."""
    method, target, version, exchange.headers, withheld = head
    exchange.method = method
    exchange.http_version = version
    exchange.withheld = withheld
    exchange.scheme = scheme
    terms = Terms()
    if version == b"1.0":
        terms.keep_alive = False
    if withheld:
        _read_withheld(exchange, terms, withheld)
    elif version != b"1.0":
        raise RequestError(400, "host_missing", "an HTTP/1.1 request needs one Host")
    target_scheme, authority, exchange.path, exchange.query = parse_target(method, target, rules)
    if authority is not None and method != b"CONNECT":
        _check_authority(exchange, target_scheme or scheme, authority)
    return terms


def _read_withheld(exchange: Exchange, terms: Terms, withheld: list[tuple[bytes, bytes]]) -> None:
    host: bytes | None = None
    connection: list[bytes] | None = None
    for name, value in withheld:
        if name == b"host":
            if host is not None:
                raise RequestError(400, "host_repeated", "more than one Host")
            host = value
        elif name == b"connection":
            connection = [*(connection or ()), value]
        elif name == b"content-length":
            exchange.body_length = _length(exchange, value)
        elif name == b"transfer-encoding":
            _transfer_coding(exchange, value)
        elif name == b"expect":
            _expectation(exchange, terms, value)
        elif name == b"upgrade":
            exchange.upgrade = value.lower()
    if host is not None:
        exchange.host = check_host(host)
    elif exchange.http_version != b"1.0":
        raise RequestError(400, "host_missing", "an HTTP/1.1 request needs one Host")
    if connection is not None:
        _options(exchange, terms, connection)
    else:
        exchange.upgrade = b""  # without the Connection option it is no upgrade (RFC 9110 §7.8)


def _length(exchange: Exchange, value: bytes) -> int:
    if exchange.body_length or not value.isdigit() or len(value) > 19 or int(value) > MAX_LENGTH:
        raise RequestError(400, "bad_content_length", "Content-Length is not one number")
    return int(value)


def _transfer_coding(exchange: Exchange, value: bytes) -> None:
    if exchange.http_version == b"1.0" or exchange.body_length:
        raise RequestError(400, "ambiguous_framing", "Transfer-Encoding beside other framing or on HTTP/1.0")
    if value.lower() != b"chunked":
        raise RequestError(501, "transfer_coding_not_implemented", "chunked is the one transfer coding known")
    exchange.body_length = UNKNOWN_LENGTH


def _expectation(exchange: Exchange, terms: Terms, value: bytes) -> None:
    if value.lower() != b"100-continue":
        raise RequestError(417, "expectation_failed", "100-continue is the one expectation known")
    terms.continues = exchange.http_version != b"1.0"


def _options(exchange: Exchange, terms: Terms, values: list[bytes]) -> None:
    options = connection_options(values)
    if options & FORBIDDEN_CONNECTION_OPTIONS:
        raise RequestError(400, "forbidden_connection_option", "Connection names a field that must reach the target")
    if b"close" in options:
        terms.keep_alive = False
    elif b"keep-alive" in options:
        terms.keep_alive = True
    if exchange.upgrade and (b"upgrade" not in options or exchange.http_version == b"1.0"):
        exchange.upgrade = b""
    named = options - _TUNNELLED
    if named:
        exchange.withheld.extend(pair for pair in exchange.headers if pair[0] in named)
        exchange.headers = [pair for pair in exchange.headers if pair[0] not in named]


def _check_authority(exchange: Exchange, scheme: bytes, authority: bytes) -> None:
    """An absolute-form target must say what Host says (RFC 9112 §3.2.2 lets it win; two readings are refused here)."""
    if not exchange.host and exchange.http_version == b"1.0":
        exchange.host = authority
    elif _portless(authority, scheme) != _portless(exchange.host, scheme):
        raise RequestError(400, "host_mismatch", "the target's authority and Host differ")


def _portless(host: bytes, scheme: bytes) -> bytes:
    return host.removesuffix(_DEFAULT_PORTS.get(scheme, b":80"))
