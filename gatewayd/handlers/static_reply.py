"""The static reply handler: a reply from the configuration, made at load, with an ETag that tells when it changed."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from stat import S_ISREG

from gatewayd.config import model
from gatewayd.config.keys import join
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import Handler
from gatewayd.errors import ConfigError, Fault
from gatewayd.rfc.conditional import none_match
from gatewayd.rfc.headers import HOP_BY_HOP, http_date, is_field_value, is_token, values

MAX_FILE = 8 * 1024**2
"""Largest file (bytes): every worker holds it in memory."""

_OWN = HOP_BY_HOP | {b"content-length", b"content-type", b"date", b"etag", b"x-request-id"}
_BODYLESS = frozenset((204, 205, 304))
_FRESH_METHODS = frozenset((b"GET", b"HEAD"))


def build(config: model.StaticReply) -> Handler:
    """A handler that answers with `config`. Raises `ConfigError`, its paths below `reply`."""
    faults: list[Fault] = []
    body = _body(config, faults)
    headers = _headers(config, faults)
    if body and config.status in _BODYLESS:
        faults.append(Fault("reply.status", "a reply of this status has no body", found=str(config.status)))
    if faults:
        raise ConfigError(faults)
    if config.status not in _BODYLESS:
        headers.append((b"content-type", config.content_type.encode()))
    etag = b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode() if config.status == 200 else b""
    return _handler(config.status, headers, body, etag)


def _handler(status: int, headers: Headers, body: bytes, etag: bytes) -> Handler:
    validators = [(b"etag", etag)] if etag else []
    full = [*headers, *validators]
    length = len(body)

    def static_reply(exchange: Exchange) -> None:
        date = (b"date", http_date(time.time()))
        if etag and exchange.method in _FRESH_METHODS and not _modified(exchange, etag):
            exchange.start_reply(304, [*full, date], length)
        elif body and exchange.method != b"HEAD":
            exchange.start_reply(status, [*full, date], length, body)
        else:
            exchange.start_reply(status, [*full, date], length)
        exchange.downstream.end_reply([])

    return static_reply


def _modified(exchange: Exchange, etag: bytes) -> bool:
    return none_match(values(exchange.headers, b"if-none-match"), etag)


def _body(config: model.StaticReply, faults: list[Fault]) -> bytes:
    if not config.file:
        return config.body.encode()
    if config.body:
        faults.append(Fault("reply.file", "a reply has either a body or a file", found=config.file))
    try:
        path = Path(config.file)
        status = path.stat()
        if not S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            faults.append(Fault("reply.file", "not a file to hold in memory", config.file, f"at most {MAX_FILE} bytes"))
            return b""
        return path.read_bytes()
    except OSError as error:
        faults.append(Fault("reply.file", f"cannot be read: {error.strerror}", found=config.file))
        return b""


def _headers(config: model.StaticReply, faults: list[Fault]) -> Headers:
    headers: Headers = []
    for name, text in config.headers.items():
        field = (name.lower().encode(), text.strip().encode())
        if field[0] in _OWN:
            faults.append(Fault(join(("reply", "headers", name)), "this field is the gateway's own", found=name))
        elif not is_token(field[0]) or not is_field_value(field[1]):
            faults.append(Fault(join(("reply", "headers", name)), "not a header name and value"))
        headers.append(field)
    return headers
