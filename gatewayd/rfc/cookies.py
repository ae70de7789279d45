"""Cookies (RFC 6265): reading one from a request, and giving a reply's cookies another path and domain."""

from __future__ import annotations

from collections.abc import Callable

from gatewayd.rfc.headers import HeaderList


def cookie(headers: HeaderList, name: bytes) -> bytes | None:
    """The value of the cookie `name` (case-sensitive), None if the request has none; the first wins (§5.4).

    Quotes around a value are part of it.
    """
    start = name + b"="
    for field, value in headers:
        if field == b"cookie" and start in value:
            for pair in value.split(b";"):
                pair = pair.strip(b" \t")
                if pair.startswith(start):
                    return pair[len(start) :]
    return None


def rescope_set_cookie(value: bytes, new_path: Callable[[bytes], bytes], drop_domain: Callable[[bytes], bool]) -> bytes:
    """A `Set-Cookie` value with its `Path` put through `new_path`, and without a `Domain` that `drop_domain` accepts.

    `drop_domain` gets the domain in lower case, without a leading dot. Everything else stays byte for byte. A cookie
    named `__Host-…` keeps `Path=/`, without which callers refuse it (RFC 6265bis §4.1.3.2).
    """
    pair, *attributes = value.split(b";")
    fixed_path = pair.strip(b" \t")[:7].lower() == b"__host-"
    kept = [pair]
    for attribute in attributes:
        name, _, setting = attribute.partition(b"=")
        kind = name.strip(b" \t").lower()
        setting = setting.strip(b" \t")
        if kind == b"domain" and setting and drop_domain(setting.lower().removeprefix(b".")):
            continue
        if kind == b"path" and setting[:1] == b"/" and not fixed_path:
            attribute = b"%b=%b" % (name, new_path(setting))
        kept.append(attribute)
    return b";".join(kept)
