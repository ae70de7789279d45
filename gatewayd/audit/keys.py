"""The key that signs chains, and what is derived from it.

`<state>/audit/signing.key` is an Ed25519 private key (RFC 8032) in PKCS #8, for this user alone; made at the first
start. Beside it lie the public halves of all keys ever used, `keys/<id>.pem`: an auditor is to have them from
elsewhere (`gatewayd audit key`), for who can write here could put another one in their place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gatewayd.audit.frames import MAC, signed_text
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FOLDER = "audit"
_KEY, _PUBLIC = "signing.key", "keys"


class SigningKeyError(GatewaydError):
    """A key of the audit cannot be read or made; the text says which and why."""


class Signer:
    """Signs frames, and makes the MAC of tips."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        seed = key.private_bytes_raw()
        self._sign = key.sign
        self._mac_key = _derived(seed, b"tip")
        self.pseudonyms = _derived(seed, b"pseudonyms")
        """Keys the hashes by which records name values that they don't tell."""
        self.public = key.public_key()
        self.id = key_id(self.public)

    def __repr__(self) -> str:
        return f"Signer({self.id!r})"

    def body(self, kind: int, previous: bytes, said: bytes) -> bytes:
        """The body of a signed frame that says `said`."""
        return self._sign(signed_text(kind, previous, said)) + said

    def mac(self, previous: bytes) -> bytes:
        """The body of a tip behind a frame of digest `previous`."""
        return hashlib.blake2b(previous, digest_size=MAC, key=self._mac_key).digest()


def _derived(seed: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(seed, digest_size=32, person=purpose.ljust(16, b"\0")).digest()


def key_id(public: Ed25519PublicKey) -> str:
    """What a key is called: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def load_signer(state: Path) -> Signer:
    """The signer of the state directory `state`; its key is made if there is none. Raises `SigningKeyError`."""
    folder = state / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        signer = Signer(_private(_read_or_make(folder / _KEY)))
        _publish(folder / _PUBLIC, signer)
    except OSError as error:
        raise SigningKeyError(f"the key that signs the audit, {folder / _KEY}: {error.strerror}") from error
    return signer


def public_keys(state: Path) -> dict[str, Ed25519PublicKey]:
    """The public keys that lie in the state directory, by id. Raises `SigningKeyError`."""
    return {
        key_id(key): key for path in sorted((state / FOLDER / _PUBLIC).glob("*.pem")) for key in [load_public(path)]
    }


def load_public(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file. Raises `SigningKeyError`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise SigningKeyError(f"{path}: {error.strerror}") from error
    except ValueError:
        raise SigningKeyError(f"{path}: this is no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SigningKeyError(f"{path}: the key is to be an Ed25519 one")
    return key


def pem_of(public: Ed25519PublicKey) -> bytes:
    """The key as a PEM file holds it (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _private(pem: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise SigningKeyError("the key that signs the audit is no private key in PEM, or has a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError("the key that signs the audit is to be an Ed25519 one")
    return key


def _read_or_make(path: Path) -> bytes:
    """The key's file. Several processes may come here at once: whose link is first, wins."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _put(path, pem, 0o600)
    return path.read_bytes()


def _publish(folder: Path, signer: Signer) -> None:
    path = folder / f"{signer.id}.pem"
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        _put(path, pem_of(signer.public), 0o644)


def _put(path: Path, content: bytes, mode: int) -> None:
    """Make `path` with all of `content`, durably, unless it is there by now."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        os.unlink(part)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
