"""API keys: `gw_<env>_<random>_<checksum>`, 32 random characters of base62 (190 bits) and the CRC-32 of all before.

The checksum is no protection: it tells garbage (typing errors, other services' keys, blind guesses) from keys before
anything is computed or looked up, and lets scanners of leaked secrets know one when they see it. What is stored is
HMAC-SHA-256 under a secret, the pepper. A key is random, so a slow hash would protect it no better; without the pepper
a stolen file of hashes cannot even be checked against.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import blake2b
from zlib import crc32

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM = 32
"""Characters, each worth log2(62) = 5.95 bits."""
CHECKSUM = 8
"""Hexadecimal digits, lower case."""
HINT = 4
SHORTEST, LONGEST = 16, 256
"""Characters that a key made elsewhere has, at least and at most."""
SHORTEST_PEPPER = 32
_MARK = b"gw_"


def new_key(environment: str) -> str:
    """A key that nobody has seen yet. It is to be shown once and never stored."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    body = f"gw_{environment}_{random}"
    return f"{body}_{_checksum(body.encode()).decode()}"


def recogniser(environment: str) -> Callable[[bytes], bool]:
    """A test of whether a text has the form of a key of this environment, checksum included."""
    prefix = _MARK + environment.encode() + b"_"
    length = len(prefix) + RANDOM + 1 + CHECKSUM
    end = length - CHECKSUM - 1

    def recognised(key: bytes) -> bool:
        return len(key) == length and key.startswith(prefix) and b"_%08x" % crc32(key[:end]) == key[end:]

    return recognised


def is_ours(key: bytes) -> bool:
    """Whether the text claims to be a key made here."""
    return key.startswith(_MARK)


def fit_elsewhere(key: bytes) -> bool:
    """Whether a key that was made elsewhere is of a form that can be taken: visible ASCII, not too short or long."""
    return SHORTEST <= len(key) <= LONGEST and not is_ours(key) and all(0x21 <= byte <= 0x7E for byte in key)


def hasher(pepper: str) -> Callable[[bytes], bytes]:
    """What makes of a key the 32 bytes that are stored and looked up."""
    begun = hmac.new(pepper.encode(), digestmod="sha256").copy  # the pepper's share is computed once

    def digest(key: bytes) -> bytes:
        mac = begun()
        mac.update(key)
        return mac.digest()

    return digest


def marker() -> Callable[[bytes], bytes]:
    """What makes of a key the 16 bytes by which this process, and no other, knows one that it has met.

    Keyed, as the hash is, with a secret: a caller can choose nothing about what is compared.
    """
    begun = blake2b(digest_size=16, key=secrets.token_bytes(32)).copy

    def mark(key: bytes) -> bytes:
        mac = begun()
        mac.update(key)
        return mac.digest()

    return mark


def stored(digest: bytes) -> str:
    """A digest as consumers' tables have it."""
    return f"hmac-sha256:{digest.hex()}"


def hint(key: str) -> str:
    """The last characters, by which people tell keys apart; 16 of the 190 bits of a key that was made here."""
    return key[-HINT:]


def _checksum(body: bytes) -> bytes:
    return b"%08x" % crc32(body)
