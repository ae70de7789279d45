"""The key that signs chains, and what is derived from it.

`<state>/audit/signing.key` is an Ed25519 private key (RFC 8032) in PKCS #8, for this user alone; made at the first
start. Beside it lie the public halves of all keys ever used, `keys/<id>.pem`: an auditor is to have them from
elsewhere (`gatewayd audit key`), for who can write here could put another one in their place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gatewayd.audit.frames import MAC, SIGNATURE, Frame, signed_text
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


def is_signed(public: Ed25519PublicKey, frame: Frame) -> bool:
    """Whether a signed frame bears the signature of this key."""
    from cryptography.exceptions import InvalidSignature

    text = signed_text(frame.kind, frame.previous, frame.body[SIGNATURE:])
    try:
        public.verify(frame.body[:SIGNATURE], text)
    except InvalidSignature:
        return False
    return True


def load_signer(state: Path) -> Signer:
    """The signer of the state directory `state`; its key is made if there is none. Raises `SigningKeyError`."""
    folder = state / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_to_owner(folder)
        signer = Signer(_private(_read_or_make(folder / _KEY)))
        _publish(folder / _PUBLIC, signer)
    except OSError as error:
        raise SigningKeyError(f"the key that signs the audit, {folder / _KEY}: {error.strerror}") from error
    return signer


def signer_at(state: Path) -> Signer | None:
    """The signer of the state directory, if its key is there and can be read. Raises `SigningKeyError`."""
    try:
        return Signer(_private((state / FOLDER / _KEY).read_bytes()))
    except OSError:
        return None


def rotate(state: Path, announce: Callable[[Signer, Signer], None]) -> Signer:
    """Put another key in the place of the one that signs. Processes that run sign with the old one until they end.

    `announce` is called with both, so that the old one can sign for the new one, before that is in place. Raises
    `SigningKeyError`, and what `announce` raises; the old one then stays.
    """
    folder = state / FOLDER
    old, part = load_signer(state), folder / f".{_KEY}.next"
    part.unlink(missing_ok=True)
    new = Signer(_private(_read_or_make(part)))
    try:
        _publish(folder / _PUBLIC, new)
        announce(old, new)
        os.rename(part, folder / _KEY)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(folder)
    return new


def public_keys(state: Path) -> dict[str, Ed25519PublicKey]:
    """The public keys that lie in the state directory, by id. Raises `SigningKeyError`."""
    return {
        key_id(key): key for path in sorted((state / FOLDER / _PUBLIC).glob("*.pem")) for key in [load_public(path)]
    }


def load_public(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file. Raises `SigningKeyError`."""
    try:
        return load_public_pem(path.read_bytes(), str(path))
    except OSError as error:
        raise SigningKeyError(f"{path}: {error.strerror}") from error


def load_public_pem(pem: bytes, place: str) -> Ed25519PublicKey:
    """The public key in PEM that stands at `place`. Raises `SigningKeyError`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except ValueError:
        raise SigningKeyError(f"{place}: this is no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SigningKeyError(f"{place}: the key is to be an Ed25519 one")
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
        give_to_owner(folder)
        _put(path, pem_of(signer.public), 0o644)


def _put(path: Path, content: bytes, mode: int) -> None:
    """Make `path` with all of `content`, durably, unless it is there by now."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_to_owner(part)
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        os.unlink(part)
    sync_folder(path.parent)


def give_to_owner(path: Path) -> None:
    """What root makes is the daemon's all the same: it goes to the owner of the folder it lies in."""
    if os.geteuid() == 0:
        owner, mine = path.parent.stat(), path.stat()
        if (owner.st_uid, owner.st_gid) != (mine.st_uid, mine.st_gid):
            os.chown(path, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
