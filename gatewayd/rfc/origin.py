"""Web origins (RFC 6454) as configurations list them and as callers send them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SCHEME = r"[a-z][a-z0-9+.\-]*"
_LABELS = r"[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)*"
_LISTED = re.compile(rf"({_SCHEME})://(\*\.)?({_LABELS}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?")
_SUBDOMAIN = re.compile(_LABELS.encode())
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Origins:
    """A set of origins: exact ones, `https://*.example.com` for every subdomain however deep, or `*`.

    A wildcard does not hold the domain itself, and an entry's port counts: none is the scheme's own. Raises
    `ValueError` for an entry that is no origin as browsers write it; `null` is none, for every sandboxed page sends it.
    """

    __slots__ = ("_exact", "_wildcards", "everyone")

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self.everyone = False
        self._exact: set[bytes] = set()
        self._wildcards: list[tuple[bytes, bytes]] = []  # what stands before and behind the subdomain
        for text in listed:
            self.add(text)

    def add(self, text: str) -> None:
        """One entry more; raises `ValueError`."""
        if text == "*":
            self.everyone = True
            return
        match = _LISTED.fullmatch(text.lower())
        if match is None:
            raise ValueError("not an origin")
        scheme, wildcard, host, port = match.groups()
        behind = host if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{host}:{port}"
        if wildcard:
            self._wildcards.append((f"{scheme}://".encode(), f".{behind}".encode()))
        else:
            self._exact.add(f"{scheme}://{behind}".encode())

    def __contains__(self, origin: bytes) -> bool:
        """Whether an `Origin` value is in the set. Browsers write origins in lower case, so nothing else is."""
        if origin in self._exact or self.everyone:
            return True
        for before, behind in self._wildcards:
            if origin.startswith(before) and origin.endswith(behind):
                return _SUBDOMAIN.fullmatch(origin, len(before), len(origin) - len(behind)) is not None
        return False


def is_same_origin(origin: bytes, scheme: bytes, host: bytes) -> bool:
    """Whether `origin` is the one asked, `host` being the request's Host."""
    port = _DEFAULT_PORTS.get(scheme.decode("latin-1"), "").encode()
    return origin == b"%b://%b" % (scheme, host.removesuffix(b":" + port))
