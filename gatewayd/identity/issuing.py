"""Tokens the gateway issues: short-lived JWTs (RFC 7519) that tell targets who calls, and the keys that prove it.

The first key signs; all are published, so that targets know the next one before it signs and the last one until the
last token of its is over. A key's name is its thumbprint (RFC 7638), so it is the same in all workers and on all
machines that read the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from gatewayd.core.clock import Clock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity.jose import encode

REMEMBERED = 8192
"""Tokens kept for their half life, per worker and instance."""
HINT = "openssl genpkey -algorithm ed25519 -out gateway-token.pem makes one"


class SigningKey(NamedTuple):
    """A key, and how others know it."""

    algorithm: str
    jwk: dict[str, str]
    """The public part as it is published (RFC 7517, RFC 8037)."""
    sign: Callable[[bytes], bytes] | None
    """Makes the signature of some bytes; None for a key of which only the public part is here."""


class _Token(NamedTuple):
    """A token at hand. `until` is in monotonic seconds."""

    until: float
    consumer: Consumer
    value: bytes


class Issuer:
    """Issues the tokens of one `iss`."""

    def __init__(
        self, keys: Sequence[SigningKey], name: str, lifetime: float, told: Sequence[str], clock: Clock
    ) -> None:
        """`told`: which claims beside the registered ones, of those that `_claims` knows; `lifetime` in seconds."""
        assert keys[0].sign is not None
        self.key_set = orjson.dumps({"keys": [each.jwk for each in keys]})
        self._sign = keys[0].sign
        self._header = encode(orjson.dumps({"alg": keys[0].algorithm, "kid": keys[0].jwk["kid"], "typ": "JWT"}))
        self._name = name
        self._lifetime = lifetime
        self._told = frozenset(told)
        self._clock = clock
        self._tokens: dict[tuple[str, str, str, frozenset[str], str], _Token] = {}

    def token(self, identity: Identity, audience: str) -> bytes:
        """A token that has at least half its life before it."""
        consumer = identity.consumer
        key = (consumer.id, identity.credential, identity.method, identity.scopes, audience)
        found = self._tokens.get(key)
        now = self._clock.monotonic()
        if found is not None and now < found.until and (found.consumer is consumer or found.consumer == consumer):
            return found.value
        if len(self._tokens) >= REMEMBERED:
            del self._tokens[next(iter(self._tokens))]
        token = self._issue(identity, audience)
        self._tokens[key] = _Token(now + self._lifetime / 2, consumer, token)
        return token

    def _issue(self, identity: Identity, audience: str) -> bytes:
        issued = int(self._clock.wall())
        claims = {
            "iss": self._name,
            "sub": identity.consumer.id,
            "aud": audience,
            "iat": issued,
            "exp": issued + int(self._lifetime),
            **{name: value for name, value in _claims(identity).items() if value and name in self._told},
        }
        content = self._header + b"." + encode(orjson.dumps(claims))
        return content + b"." + encode(self._sign(content))


def _claims(identity: Identity) -> dict[str, Any]:
    consumer = identity.consumer
    return {
        "name": consumer.name,
        "groups": sorted(consumer.groups),
        "plan": consumer.plan,
        "labels": dict(consumer.labels),
        "scope": " ".join(sorted(identity.scopes)),
        "method": identity.method,
        "credential": identity.credential,
    }


def load_keys(paths: Sequence[str]) -> list[SigningKey]:
    """The keys of PEM files; all but the first may be public ones. Raises `ConfigError`, its paths below `keys`."""
    faults: list[Fault] = []
    keys: list[SigningKey] = []
    for at, path in enumerate(paths):
        try:
            with open(path, "rb") as file:
                keys.append(_read(file.read()))
        except OSError as error:
            faults.append(Fault(f"keys[{at}]", f"cannot be read: {error.strerror}", path, hint=HINT))
        except ValueError as error:
            faults.append(Fault(f"keys[{at}]", str(error), path, "a PEM file: Ed25519 or EC P-256", HINT))
    if not paths:
        faults.append(Fault("keys", "there is no key to sign with", allowed="PEM files", hint=HINT))
    elif len(keys) == len(paths):
        if keys[0].sign is None:
            faults.append(Fault("keys[0]", "a public key cannot sign", paths[0], "a private key", HINT))
        if len({each.jwk["kid"] for each in keys}) != len(keys):
            faults.append(Fault("keys", "a key stands there twice"))
    if faults:
        raise ConfigError(faults)
    return keys


def _read(data: bytes) -> SigningKey:
    """The key of a PEM text. Raises `ValueError`, which holds nothing of it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    private = b"PRIVATE KEY-----" in data
    try:
        key: Any = load_pem_private_key(data, None) if private else load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not a PEM key, or an encrypted one") from None
    public = key.public_key() if private else key
    if isinstance(public, ed25519.Ed25519PublicKey):
        point = {"crv": "Ed25519", "kty": "OKP", "x": _text(public.public_bytes_raw())}
        return SigningKey("EdDSA", _jwk("EdDSA", point), key.sign if private else None)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        numbers = public.public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        point = {"crv": "P-256", "kty": "EC", "x": _text(x), "y": _text(y)}
        return SigningKey("ES256", _jwk("ES256", point), _es256(key) if private else None)
    raise ValueError("a key of this kind is not used for tokens")


def _jwk(algorithm: str, point: dict[str, str]) -> dict[str, str]:
    """With its name: the digest of the members that make the key, in the order of their names (RFC 7638 §3)."""
    thumbprint = hashlib.sha256(orjson.dumps(point)).digest()
    return {**point, "kid": _text(thumbprint), "alg": algorithm, "use": "sig"}


def _es256(key: Any) -> Callable[[bytes], bytes]:
    """Two numbers of 32 bytes, one behind the other (RFC 7518 §3.4)."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    how = ECDSA(SHA256())

    def sign(content: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(content, how))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def _text(data: bytes) -> str:
    return encode(data).decode()
