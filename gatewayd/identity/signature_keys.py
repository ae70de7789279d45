"""Keys that check request signatures, each by one algorithm of RFC 9421 §3.3. The key says which, not the request."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Any, get_args

from gatewayd.config.consumers import SignatureAlgorithm

Check = Callable[[bytes, bytes], bool]
"""(signature, what is signed): whether the one is the other's."""

ALGORITHMS = get_args(SignatureAlgorithm)
LEAST_SECRET = 32
"""Bytes of a shared secret: as long as the digest (RFC 2104 §3)."""
LEAST_RSA_BITS = 2048
BASE64 = "base64:"


def check_of(algorithm: str, key: str) -> Check:
    """What checks signatures of `key`: a public key as PEM, or a shared secret, as it is or in base64 behind "base64:".

    Raises `ValueError`, whose text holds nothing of the key: unknown algorithm, weak, or of another kind.
    """
    if algorithm == "hmac-sha256":
        return _hmac(key)
    if algorithm not in ALGORITHMS:
        raise ValueError("an unknown algorithm")
    return _public(algorithm, key.encode())


def _hmac(key: str) -> Check:
    if "-----BEGIN" in key:
        raise ValueError("a key pair is no shared secret: its public key is known to others")
    try:
        secret = base64.b64decode(key[len(BASE64) :], validate=True) if key.startswith(BASE64) else key.encode()
    except ValueError:
        raise ValueError("not base64") from None
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"a shared secret has at least {LEAST_SECRET} bytes")
    return lambda signature, content: hmac.compare_digest(hmac.digest(secret, content, "sha256"), signature)


def _public(algorithm: str, pem: bytes) -> Check:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key: Any = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a public key in PEM form") from None
    if isinstance(key, ed25519.Ed25519PublicKey) and algorithm == "ed25519":
        return _verifier(key)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1" and algorithm.startswith("ecdsa"):
        return _p256(_verifier(key, ec.ECDSA(hashes.SHA256())))
    if isinstance(key, rsa.RSAPublicKey) and algorithm.startswith("rsa"):
        if key.key_size < LEAST_RSA_BITS:
            raise ValueError(f"an RSA key has at least {LEAST_RSA_BITS} bits")
        if algorithm == "rsa-v1_5-sha256":
            return _verifier(key, padding.PKCS1v15(), hashes.SHA256())
        return _verifier(key, padding.PSS(padding.MGF1(hashes.SHA512()), 64), hashes.SHA512())
    raise ValueError("a key of another kind than the algorithm's")


def _verifier(key: Any, *how: Any) -> Check:
    from cryptography.exceptions import InvalidSignature

    verify = key.verify

    def check(signature: bytes, content: bytes) -> bool:
        try:
            verify(signature, content, *how)
        except InvalidSignature:
            return False
        return True

    return check


def _p256(check_der: Check) -> Check:
    """RFC 9421 §3.3.4: two numbers of 32 bytes, one behind the other."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    def check(signature: bytes, content: bytes) -> bool:
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        return check_der(encode_dss_signature(r, s), content)

    return check
