"""Undoing in replies what was done to a request's path: `Location`, `Content-Location` and cookies.

A route that strips `/v1` and puts `/internal` before the rest asks the target for `/internal/x` when the caller asked
for `/v1/x`. What the target says about its own paths has to be told in the caller's; what it says about other hosts, or
about paths that no caller can reach through this route, is left alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gatewayd.rfc.cookies import rescope_set_cookie
from gatewayd.rfc.headers import HeaderList

_REWRITTEN = frozenset({b"location", b"content-location", b"set-cookie"})
# scheme, authority, path and the rest of a URI reference (RFC 3986 appendix B)
_REFERENCE = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.\-]*):)?(?://([^/?#]*))?([^?#]*)(.*)", re.DOTALL)
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class Asked(NamedTuple):
    """One exchange's two addresses: what the caller asked (`scheme`, `host`) and what the target was asked.

    `sent_host` is the Host the target got, `target` the address it was dialled at; all hosts lower case, with a port
    if there is one. `sent_path` is the path the target got.
    """

    scheme: bytes
    host: bytes
    sent_scheme: bytes
    sent_host: bytes
    target: bytes
    sent_path: bytes


class Rewriting:
    """Undoes one route's `strip_prefix` and `add_prefix`; with both "" only the target's own host is undone."""

    __slots__ = ("_added", "_stripped")

    def __init__(self, strip_prefix: str, add_prefix: str) -> None:
        self._stripped = strip_prefix.rstrip("/").encode()
        self._added = add_prefix.rstrip("/").encode()

    def apply(self, headers: HeaderList, asked: Asked) -> None:
        """Rewrite a reply's headers in place."""
        for at, (name, value) in enumerate(headers):
            if name in _REWRITTEN:
                rewritten = self.cookie(value, asked) if name == b"set-cookie" else self.reference(value, asked)
                headers[at] = (name, rewritten)

    def reference(self, value: bytes, asked: Asked) -> bytes:
        """A URI reference of the target's as the caller has to read it (RFC 3986 §4.1)."""
        match = _REFERENCE.fullmatch(value)
        if match is None:
            return value
        scheme, authority, path, rest = match.groups()
        if authority is None and (scheme is not None or not path):
            return value  # mailto: and the like, "?query", "#fragment"
        if authority is not None:
            return self._absolute(value, scheme, authority.lower(), path, rest, asked)
        if not (self._stripped or self._added):
            return value
        outside = self.outside(_resolved(path, asked.sent_path))
        return value if outside is None else outside + rest

    def _absolute(
        self, value: bytes, scheme: bytes | None, authority: bytes, path: bytes, rest: bytes, asked: Asked
    ) -> bytes:
        scheme = scheme and scheme.lower()
        plain = _portless(authority, scheme or asked.sent_scheme)
        ours = plain == _portless(asked.host, asked.scheme)
        if scheme not in (None, b"http", b"https") or not (ours or self._is_target(plain, asked)):
            return value
        outside = self.outside(_without_dots(path or b"/"))
        if outside is None or not asked.host:
            return value
        if scheme is None:
            return b"//%b%b%b" % (asked.host, outside, rest)
        # Our own host under the other scheme is a target that sends callers over to TLS: it means what it says.
        if not ours or scheme == asked.sent_scheme:
            scheme, authority = asked.scheme, asked.host
        return b"%b://%b%b%b" % (scheme, authority, outside, rest)

    @staticmethod
    def _is_target(plain: bytes, asked: Asked) -> bool:
        return plain in (_portless(asked.sent_host, asked.sent_scheme), _portless(asked.target, asked.sent_scheme))

    def outside(self, path: bytes) -> bytes | None:
        """The caller's path for one of the target's, None where no caller can get there through this route."""
        if self._added:
            if path != self._added and not path.startswith(self._added + b"/"):
                return None
            path = path[len(self._added) :]
        if self._stripped:
            return self._stripped + path
        # Without a prefix of its own a path with "//" in front would name a host.
        return b"/" + path.lstrip(b"/")

    def cookie(self, value: bytes, asked: Asked) -> bytes:
        """A `Set-Cookie` value of the target's as the caller has to read it."""
        caller = _hostname(asked.host)
        targets = (_hostname(asked.sent_host), _hostname(asked.target))

        def unusable(domain: bytes) -> bool:
            return not _within(caller, domain) and any(_within(target, domain) for target in targets)

        return rescope_set_cookie(value, self._cookie_path, unusable)

    def _cookie_path(self, path: bytes) -> bytes:
        if (self._added + b"/").startswith(path.rstrip(b"/") + b"/"):  # all of what this route reaches, or more
            return self._stripped or b"/"
        outside = self.outside(path)
        return path if outside is None else outside


def _within(host: bytes, domain: bytes) -> bool:
    """Domain matching (RFC 6265 §5.1.3)."""
    return host == domain or host.endswith(b"." + domain)


def _hostname(host: bytes) -> bytes:
    return re.sub(rb":[0-9]+\Z", b"", host)


def _portless(authority: bytes, scheme: bytes) -> bytes:
    return authority.removesuffix(_DEFAULT_PORTS.get(scheme, b":80"))


def _resolved(path: bytes, base: bytes) -> bytes:
    """A path reference resolved against the path `base` (RFC 3986 §5.2.2)."""
    if path[:1] != b"/":
        path = base[: base.rfind(b"/") + 1] + path
    return _without_dots(path)


def _without_dots(path: bytes) -> bytes:
    """RFC 3986 §5.2.4 for a path that begins with `/`."""
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
