"""Keys that check signatures (RFC 7517, RFC 7518): what each may be used for is settled when it is read.

joserfc reads them; signatures are checked by the key itself (cryptography), for joserfc takes 17 µs to come to an RS256
check that takes 21. Refused are keys that are weak, or were meant for something else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gatewayd.identity.jose import Refused, decode

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Check = Callable[[bytes, bytes], bool]
"""(signature, what is signed): whether the one is the other's."""

SECRET = ("HS256", "HS384", "HS512")
PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
ALGORITHMS = (*PUBLIC, *SECRET)

LEAST_RSA_BYTES = 256
KEYS = 100
"""Keys of a set; further ones are left out."""
CANDIDATES = 4
"""Keys that are tried for a token that does not name one."""

PUBLIC_MEMBERS = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}
_PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_CURVES = {"secp256r1": ("ES256", 32), "secp384r1": ("ES384", 48), "secp521r1": ("ES512", 66)}
"""Algorithm and bytes of a coordinate, by the name cryptography gives a curve (RFC 7518 §3.4: one curve for each)."""


def load_library() -> None:
    """Import what reads and uses keys now, at load, rather than within the first exchange: that takes 0.1 s."""
    import joserfc.jwk  # noqa: F401 - and with it cryptography


class Key:
    """A key and what it can check. `live` becomes False when its issuer no longer names it."""

    __slots__ = ("checks", "kid", "kind", "live", "print")

    def __init__(self, kind: str, kid: str | None, checks: Mapping[str, Check], text: bytes = b"") -> None:
        self.kind = kind  # `kty`
        self.kid = kid
        self.checks = checks  # by algorithm; those that it is not for are not there
        self.live = True
        self.print = hashlib.sha256(text).digest()  # of all that its issuer says about it

    def __repr__(self) -> str:
        return f"<Key {self.kind} {' '.join(self.checks)}>"


class KeySet:
    """An issuer's keys by their names. Several keys of one name and kind could be confused: none of them is taken."""

    def __init__(self, keys: Iterable[Key]) -> None:
        named: dict[tuple[str | None, str], list[Key]] = {}
        for key in keys:
            named.setdefault((key.kid, key.kind), []).append(key)
        self.keys = [key for (kid, _), found in named.items() if kid is None or len(found) == 1 for key in found]
        self._nameless = [key for key in self.keys if key.kid is None]
        self._by_kid: dict[str, list[Key]] = {}
        for key in self.keys:
            if key.kid is not None:
                self._by_kid.setdefault(key.kid, []).append(key)

    def __len__(self) -> int:
        return len(self.keys)

    def names(self, kid: str | None) -> bool:
        """Whether there is a key of that name."""
        return kid in self._by_kid

    def followed_by(self, newer: KeySet) -> KeySet:
        """`newer`, with the very keys of this set where nothing about them has changed. Others are no longer live."""
        known = {key.print: key for key in self.keys}
        keys = [known.pop(key.print, key) for key in newer.keys]
        for key in known.values():
            key.live = False
        return KeySet(keys)

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token: those of the name it says, or without one; any, if it says none."""
        keys = self.keys if kid is None else self._by_kid.get(kid, self._nameless)
        return [key for key in keys if algorithm in key.checks][:CANDIDATES]

    def signer(self, kid: str | None, algorithm: str, signature: bytes, content: bytes) -> Key | None:
        """The key that signed `content`, None if none did."""
        for key in self.candidates(kid, algorithm):
            if key.checks[algorithm](signature, content):
                return key
        return None


def key_of(jwk: Mapping[str, Any]) -> Key:
    """A public key, or a shared secret (`oct`). Raises `Refused`.

    `use`, `key_ops` and `alg` are heeded (RFC 7517 §4.2 to §4.4). A public key that shows its private part is refused:
    whoever read it can sign.
    """
    kind, kid = jwk.get("kty"), jwk.get("kid")
    if not isinstance(kid, str | None) or not _for_signatures(jwk):
        raise Refused("key_use")
    if kind == "oct":
        return Key(kind, kid, _meant(jwk, _secret_checks(decode(_bytes(jwk.get("k"))))), _text(jwk))
    if kind not in PUBLIC_MEMBERS or _PRIVATE_MEMBERS & jwk.keys():
        raise Refused("key_kind")
    return Key(kind, kid, _meant(jwk, _public_checks(_read(jwk, PUBLIC_MEMBERS[kind]))), _text(jwk))


def _text(jwk: Mapping[str, Any]) -> bytes:
    return json.dumps(jwk, sort_keys=True).encode()


def secret_key(secret: bytes) -> Key:
    """A secret shared with the issuer, for tokens whatever `kid` they name. Raises `Refused` if it is too short."""
    return Key("oct", None, _meant({}, _secret_checks(secret)))


def key_set(document: Mapping[str, Any]) -> KeySet:
    """The set of an issuer's public keys (RFC 7517 §5), those left out that are of no use here. Raises `Refused`.

    Secrets never stand in a set that is published, so a set that holds one is refused as a whole.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or any(isinstance(each, dict) and each.get("kty") == "oct" for each in entries):
        raise Refused("key_set")
    keys = []
    for each in entries[:KEYS]:
        try:
            keys.append(key_of(each if isinstance(each, dict) else {}))
        except Refused:
            continue
    return KeySet(keys)


def _for_signatures(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _meant(jwk: Mapping[str, Any], checks: dict[str, Check]) -> dict[str, Check]:
    """`checks` without what the key is not for."""
    if "alg" in jwk:
        checks = {name: check for name, check in checks.items() if name == jwk["alg"]}
    if not checks:
        raise Refused("key_algorithm")
    return checks


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or not value.isascii():
        raise Refused("key_kind")
    return value.encode()


def _read(jwk: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    numbers = {name: decode(_bytes(jwk.get(name))) for name in names if name not in ("kty", "crv")}
    if int.from_bytes(numbers.get("n", b"\xff" * LEAST_RSA_BYTES), "big").bit_length() < 8 * LEAST_RSA_BYTES:
        raise Refused("key_weak")
    try:
        key: Any = JWKRegistry.import_key({name: jwk[name] for name in names})
        return key.public_key
    except (JoseError, ValueError, KeyError, TypeError, OverflowError):
        raise Refused("key_malformed") from None


def _public_checks(key: Any) -> dict[str, Check]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_checks(key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _ec_checks(key)
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return {"EdDSA": _check_with(key.verify)}
    raise Refused("key_kind")  # X25519 and X448 agree on keys, they sign nothing


def _rsa_checks(key: RSAPublicKey) -> dict[str, Check]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    if _is_roca(key.public_numbers().n):
        raise Refused("key_weak")
    checks: dict[str, Check] = {}
    for kind in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        bits = 8 * kind.digest_size
        salted = padding.PSS(padding.MGF1(kind), kind.digest_size)  # RFC 7518 §3.5: as long as the digest
        checks[f"RS{bits}"] = _check_with(key.verify, padding.PKCS1v15(), kind)
        checks[f"PS{bits}"] = _check_with(key.verify, salted, kind)
    return checks


def _ec_checks(key: EllipticCurvePublicKey) -> dict[str, Check]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if key.curve.name not in _CURVES:
        raise Refused("key_kind")
    algorithm, size = _CURVES[key.curve.name]
    kinds: dict[str, hashes.HashAlgorithm] = {
        "ES256": hashes.SHA256(),
        "ES384": hashes.SHA384(),
        "ES512": hashes.SHA512(),
    }
    check_der = _check_with(key.verify, ec.ECDSA(kinds[algorithm]))

    def check(signature: bytes, content: bytes) -> bool:
        if len(signature) != 2 * size:  # RFC 7518 §3.4: two numbers, leading zeros included
            return False
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        return check_der(encode_dss_signature(r, s), content)

    return {algorithm: check}


def _secret_checks(secret: bytes) -> dict[str, Check]:
    """RFC 7518 §3.2: a key must be as long as the digest, or longer."""
    return {f"HS{bits}": partial(_matches, secret, f"sha{bits}") for bits in (256, 384, 512) if len(secret) * 8 >= bits}


def _matches(secret: bytes, digest: str, signature: bytes, content: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(secret, content, digest), signature)


def _check_with(verify: Callable[..., None], *how: Any) -> Check:
    from cryptography.exceptions import InvalidSignature

    def check(signature: bytes, content: bytes) -> bool:
        try:
            verify(signature, content, *how)
        except InvalidSignature:
            return False
        return True

    return check


def _is_roca(modulus: int) -> bool:
    """Whether an RSA key was made by the faulty generator of CVE-2017-15361, so that its factors can be found.

    Its primes are powers of 65537 modulo a product of small primes, and so is their product; of other keys about one
    in 2^27 is.
    """
    return all(modulus % prime in _powers(prime) for prime in _ROCA_PRIMES)


_ROCA_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
"""Those of the fingerprint whose powers of 65537 are not all residues."""


def _powers(prime: int) -> set[int]:
    found, power = set(), 1
    while power not in found:
        found.add(power)
        power = power * 65537 % prime
    return found
