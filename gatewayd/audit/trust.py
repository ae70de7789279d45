"""Which keys a verifier believes: those it was given, and those that one of them has signed for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gatewayd.audit.frames import SIGNATURE, Frame
from gatewayd.audit.keys import is_signed, key_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Trust:
    """Public keys by id."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = dict(keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    @property
    def ids(self) -> list[str]:
        """The ids of all keys that are trusted by now."""
        return sorted(self._keys)

    def signed(self, key: str, frame: Frame) -> bool:
        """Whether a frame bears the signature of the key of that id, and the key is trusted."""
        public = self._keys.get(key)
        return public is not None and len(frame.body) > SIGNATURE and is_signed(public, frame)

    def introduce(self, raw: bytes) -> None:
        """Trust the key of these 32 bytes, too: who says so is trusted. Raises `ValueError`."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        public = Ed25519PublicKey.from_public_bytes(raw)
        self._keys[key_id(public)] = public
