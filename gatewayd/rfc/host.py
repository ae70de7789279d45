"""The Host field and other authorities (RFC 9110 §7.2, RFC 3986 §3.2.2), strict, in one spelling."""

from __future__ import annotations

import re
from socket import AF_INET6, inet_ntop, inet_pton

from gatewayd.errors import RequestError

_MEMO_SIZE = 1_024
_MEMO_LENGTH = 300
"""Entries, and bytes of one: callers choose the values, so the memo is bounded in both."""

_memo: dict[bytes, bytes] = {}
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]*))?")
_LABEL_OF_NUMBER = re.compile(rb"[0-9]+|0[xX][0-9A-Fa-f]*")
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rb"%b(?:\.%b){3}" % (_OCTET, _OCTET))
_LONGEST_NAME = 253
"""Bytes of a DNS name in text (RFC 1035 §2.3.4)."""


def check_host(value: bytes) -> bytes:
    """`host` or `host:port` in its one spelling; raises `RequestError` 400 `host_malformed`.

    Names in lower case, without the root's dot at the end; letters, digits, "-", "_", "." and "~" only,
    no empty label, 253 bytes at most; what ends in a number must be an IPv4 address, since resolvers
    read `127.1` as one; IPv6 in brackets, shortest form (RFC 5952), no zone; ports 1 to 65535 without
    leading zeros, an empty one dropped. No user information, path, list, white space, escape or empty
    host.
    """
    known = _memo.get(value)
    if known is not None:
        return known
    checked = _check(value)
    if len(value) <= _MEMO_LENGTH:
        if len(_memo) >= _MEMO_SIZE:
            _memo.clear()
        _memo[value] = checked
    return checked


def _check(value: bytes) -> bytes:
    parts = _AUTHORITY.fullmatch(value)
    if parts is None:
        raise _fault("it is not host or host:port")
    host, port = parts.groups()
    host = _ipv6(host) if host.startswith(b"[") else _name(host.lower())
    if not port:
        return host
    if port.startswith(b"0") or len(port) > 5 or int(port) > 65_535:
        raise _fault("its port is not 1 to 65535")
    return b"%b:%b" % (host, port)


def _name(name: bytes) -> bytes:
    name = name.removesuffix(b".")
    labels = name.split(b".")
    if b"" in labels or len(name) > _LONGEST_NAME:
        raise _fault("it has an empty label or is too long")
    if _LABEL_OF_NUMBER.fullmatch(labels[-1]) and not _IPV4.fullmatch(name):
        raise _fault("it ends in a number and is no IPv4 address")
    return name


def _ipv6(literal: bytes) -> bytes:
    try:
        address = inet_pton(AF_INET6, literal[1:-1].decode("ascii"))
    except OSError:
        raise _fault("it is no IPv6 address") from None
    return b"[%b]" % inet_ntop(AF_INET6, address).encode("ascii")


def _fault(why: str) -> RequestError:
    return RequestError(400, "host_malformed", f"the host is not acceptable: {why}")
