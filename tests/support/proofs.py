"""Proofs of possession (DPoP) for tests, right ones and all kinds of wrong ones."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.support.tokens import NOW, AnyKey, jwk_of, key_for, segment, token

URL = "https://api.example.com/v1/x"
"""Where `tests.support.exchanges.make_exchange` goes."""
TOKEN = b"an.access.token"


def thumbprint(key: AnyKey) -> str:
    """RFC 7638, by the letter."""
    shown = jwk_of(key)
    names = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}[shown["kty"]]
    text = "{" + ",".join(f'"{name}":"{shown[name]}"' for name in names) + "}"
    return segment(hashlib.sha256(text.encode()).digest()).decode()


def stated(**more: Any) -> dict[str, Any]:
    """What a good proof for a GET of `URL` with `TOKEN` says; None takes a claim out."""
    ath = segment(hashlib.sha256(TOKEN).digest()).decode()
    usual = {"jti": "one", "htm": "GET", "htu": URL, "iat": NOW, "ath": ath}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def proof(
    said: dict[str, Any] | bytes | None = None,
    algorithm: str = "ES256",
    key: AnyKey | None = None,
    signer: AnyKey | None = None,
    **header: Any,
) -> bytes:
    """A proof with `key` in its header, signed by `signer`, which is the same unless given."""
    key = key or key_for(algorithm)
    fields = {"kid": None, "typ": "dpop+jwt", "jwk": jwk_of(key), **header}
    payload = said if isinstance(said, bytes) else json.dumps(said if said is not None else stated()).encode()
    return token(payload, algorithm, signer or key, **fields)
