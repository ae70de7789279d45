"""Tokens and keys: signed by joserfc, which stands here for the issuers; or forged by hand, where it would refuse."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import ECKey, JWKRegistry, OctKey, OKPKey, RSAKey

ISSUER = "https://login.example"
AUDIENCE = "https://api.example"
NOW = 1_800_000_000
"""The wall clock of `core.clock.FakeClock`."""
SECRET = "a secret shared with the issuer, long enough for all of HS256, HS384 and HS512"
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
AnyKey = RSAKey | ECKey | OctKey | OKPKey


def key_for(algorithm: str, name: str = "one") -> AnyKey:
    """A private key for `algorithm`; another `name`, another key."""
    return _made(algorithm, name)


@cache
def _made(algorithm: str, name: str) -> AnyKey:
    if algorithm[:2] in ("RS", "PS"):
        return RSAKey.import_key(_rsa(name))
    if algorithm in _CURVES:
        return ECKey.generate_key(_CURVES[algorithm])
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519" if name == "one" else "Ed448")
    return OctKey.import_key(SECRET)


@cache
def _rsa(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk_of(key: AnyKey, **members: Any) -> dict[str, Any]:
    """The public key as an issuer publishes it."""
    shown = dict(key.as_dict(private=False))
    shown.pop("kid", None)
    return {**shown, **members}


def jwks(*keys: dict[str, Any]) -> dict[str, Any]:
    """A key set."""
    return {"keys": list(keys)}


def read(jwk: dict[str, Any]) -> AnyKey:
    """The key of a JWK."""
    return JWKRegistry.import_key(jwk)


def claims(**more: Any) -> dict[str, Any]:
    """What a token of `ISSUER` for acme's service account says at `NOW`; None takes a claim out."""
    usual = {"iss": ISSUER, "sub": "acme-1", "aud": AUDIENCE, "exp": NOW + 600, "iat": NOW - 10, "scope": "read write"}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def token(
    said: dict[str, Any] | bytes | None = None, algorithm: str = "RS256", key: AnyKey | None = None, **header: Any
) -> bytes:
    """A token with these claims, signed with `key`; None in the header takes a field out."""
    fields = {"alg": algorithm, "kid": "k1", "typ": "at+jwt", **header}
    fields = {name: value for name, value in fields.items() if value is not None}
    payload = said if isinstance(said, bytes) else json.dumps(said if said is not None else claims()).encode()
    signer = key or key_for(algorithm)
    content = segment(json.dumps(fields).encode()) + b"." + segment(payload)
    method: Any = jws.JWSRegistry.algorithms[algorithm]
    return content + b"." + segment(method.sign(content, signer))


def forged(header: dict[str, Any] | bytes, said: dict[str, Any] | bytes | None = None, signature: bytes = b"") -> bytes:
    """A token put together by hand."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    payload = said if isinstance(said, bytes) else json.dumps(said if said is not None else claims()).encode()
    return b".".join(segment(part) for part in (head, payload, signature))


def segment(data: bytes) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")
