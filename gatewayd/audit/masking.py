"""How records name values and addresses that they don't tell."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Literal

REMEMBERED = 8_192
"""Values and addresses kept in memory, so that what comes again costs a lookup."""
PSEUDONYM = 8
"""Bytes of a value's hash."""


def pseudonyms(key: bytes) -> Callable[[bytes], bytes]:
    """Hashes values under `key` (BLAKE2b, RFC 7693): the same for the same value, and nobody without the key can try
    values out."""
    keyed = hashlib.blake2b(key=key, digest_size=PSEUDONYM)
    known: dict[bytes, bytes] = {}

    def pseudonym(value: bytes) -> bytes:
        found = known.get(value)
        if found is None:
            hasher = keyed.copy()
            hasher.update(value)
            found = hasher.digest()
            if len(known) >= REMEMBERED:
                del known[next(iter(known))]
            known[value] = found
        return found

    return pseudonym


def masking(how: Literal["full", "masked", "none"]) -> Callable[[str], str]:
    """What records hold of an address: all of it, its /24 (IPv4) or /48 (IPv6), or nothing."""
    if how == "full":
        return str
    if how == "none":
        return lambda address: ""
    known: dict[str, str] = {}

    def masked(address: str) -> str:
        found = known.get(address)
        if found is None:
            if len(known) >= REMEMBERED:
                del known[next(iter(known))]
            found = known[address] = _masked(address)
        return found

    return masked


def _masked(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(parsed, "ipv4_mapped", None)
    parsed = mapped or parsed
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))
