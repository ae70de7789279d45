"""Consumers for the scenarios that ask who calls: their API keys, their tokens, and what checking a signature costs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from benchmarks.processes import pinned
from gatewayd.identity.api_keys import hasher, hint, new_key, stored
from gatewayd.identity.jose import decode, encode

CONSUMERS = 10_000
BITS = 2048
ISSUER, AUDIENCE = "https://issuer.example", "https://api.example"
LIFETIME = 24 * 3600
"""Seconds that tokens last: longer than any run."""
BATCH = 100
"""Signatures that are checked together when the check is timed."""


@dataclass(frozen=True, slots=True)
class Consumers:
    """Consumers with an API key each. `listed`: gatewayd's file of them; `map`: the keys as nginx reads them."""

    pepper: str
    names: list[str]
    keys: list[str]
    listed: Path
    map: Path


def make_consumers(folder: Path, number: int = CONSUMERS) -> Consumers:
    """Make so many, and their files in `folder`."""
    pepper = secrets.token_hex(32)
    names = [f"partner-{index}" for index in range(number)]
    keys = [new_key("live") for _ in names]
    digest = hasher(pepper)
    lines = [
        orjson.dumps(
            {
                "id": name,
                "name": name,
                "groups": ["partners"],
                "keys": [{"id": name, "hash": stored(digest(key.encode())), "hint": hint(key)}],
            }
        )
        for name, key in zip(names, keys, strict=True)
    ]
    listed, mapped = folder / "consumers.jsonl", folder / "keys.map"
    listed.write_bytes(b"\n".join(lines) + b"\n")
    mapped.write_text("".join(f'"{key}" {name};\n' for name, key in zip(names, keys, strict=True)))
    return Consumers(pepper, names, keys, listed, mapped)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one issuer, each of another consumer and each with its own signature. `jwks`: a file of its key."""

    jwks: Path
    tokens: list[str]
    key: rsa.RSAPublicKey

    def check_us(self, cores: Sequence[int] = ()) -> float:
        """CPU microseconds of one check of a signature and nothing else, on `cores`; the median over batches."""
        parts = [token.rpartition(".") for token in self.tokens]
        checks = [(decode(signature.encode()), content.encode()) for content, _, signature in parts]
        scheme, digest = padding.PKCS1v15(), SHA256()
        found = []
        with pinned(cores):
            for first in range(0, len(checks), BATCH):
                batch = checks[first : first + BATCH]
                began = time.thread_time_ns()
                for signature, content in batch:
                    self.key.verify(signature, content, scheme, digest)
                found.append((time.thread_time_ns() - began) / len(batch) / 1000)
        return median(found)


def make_tokens(folder: Path, names: Sequence[str], clock: Callable[[], float] = time.time) -> Tokens:
    """A token for each of `names`, signed with RS256; about half a second for a thousand."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    numbers = private.public_key().public_numbers()
    key = {"kty": "RSA", "kid": "bench", "alg": "RS256", "use": "sig", "n": number(numbers.n), "e": number(numbers.e)}
    jwks = folder / "jwks.json"
    jwks.write_bytes(orjson.dumps({"keys": [key]}))
    now = int(clock())
    head = encode(orjson.dumps({"alg": "RS256", "typ": "at+jwt", "kid": "bench"}))
    tokens = []
    for index, name in enumerate(names):
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": name, "scope": "read write", "jti": f"{index:08x}"}
        content = head + b"." + encode(orjson.dumps({**claims, "iat": now, "exp": now + LIFETIME}))
        signature = private.sign(content, padding.PKCS1v15(), SHA256())
        tokens.append((content + b"." + encode(signature)).decode())
    return Tokens(jwks, tokens, private.public_key())


def number(value: int) -> str:
    """As JSON Web Keys write numbers (RFC 7518 §2, Base64urlUInt)."""
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()
