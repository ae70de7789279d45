"""The four forms of a request target (RFC 9112 §3.2), each only with the methods it belongs to."""

from __future__ import annotations

import re

from gatewayd.errors import RequestError
from gatewayd.rfc.host import check_host
from gatewayd.rfc.path import PathRules, is_clean_query, is_plain, normalise, split_target

Target = tuple[bytes | None, bytes | None, bytes, bytes | None]
"""(scheme, authority, path, query): scheme and authority as `parse_target` says, path normalised, query
raw.
"""

_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)


def parse_target(method: bytes, target: bytes, rules: PathRules) -> Target:
    """Take `target` apart: `(scheme, authority, path, query)`, a plain tuple because every request makes
    one.

    origin-form: `(None, None, path, query)`; absolute-form: scheme (`http` or `https`) and authority in
    lower case, an empty path read as `/` (`*` with OPTIONS and no query, RFC 9112 §3.2.4);
    asterisk-form, with OPTIONS alone: `(None, None, b"*", None)`; authority-form, with CONNECT and
    nothing else: `(None, authority, b"", None)`. Raises `RequestError` 400: `target_malformed`, and what
    `split_target`, `normalise` and `check_host` raise.
    """
    if method != b"CONNECT":
        path, mark, query = target.partition(b"?")
        if is_plain(path) and (not mark or is_clean_query(query)):
            return None, None, path, query if mark else None
    return _parse_other(method, target, rules)


def _parse_other(method: bytes, target: bytes, rules: PathRules) -> Target:
    if method == b"CONNECT":
        return None, _tunnel_authority(target), b"", None
    if target.startswith(b"/"):
        path, query = split_target(target)
        return None, None, normalise(path, rules), query
    if target == b"*":
        if method != b"OPTIONS":
            raise RequestError(400, "target_malformed", "the target * is for OPTIONS")
        return None, None, b"*", None
    return _parse_absolute(method, target, rules)


def _tunnel_authority(target: bytes) -> bytes:
    authority = check_host(target)
    if not _HAS_PORT.search(authority):
        raise RequestError(400, "target_malformed", "CONNECT needs a host and a port")
    return authority


_HAS_PORT = re.compile(rb":[0-9]+\Z")


def _parse_absolute(method: bytes, target: bytes, rules: PathRules) -> Target:
    parts = _ABSOLUTE.fullmatch(target)
    if parts is None:
        raise RequestError(400, "target_malformed", "the target is neither a path nor a URI")
    scheme, authority, rest = parts.groups()
    scheme = scheme.lower()
    if scheme not in (b"http", b"https"):
        raise RequestError(400, "target_malformed", "the target's scheme is not http or https")
    authority = check_host(authority)
    if not rest and method == b"OPTIONS":
        return scheme, authority, b"*", None
    path, query = split_target(rest)
    return scheme, authority, normalise(path or b"/", rules), query
