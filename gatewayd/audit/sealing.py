"""Sealing personal data as records need it: by consumer, with everything at hand that does not change."""

from __future__ import annotations

import os
from collections.abc import Callable

from gatewayd.audit.subjects import SubjectKeys, subject_of

_DAY = 86_400
_Seal = Callable[[bytes, bytes, bytes | None], bytes]


class Sealing:
    """Seals under the keys of `keys`. At most `limit` consumers are kept in memory."""

    def __init__(self, keys: SubjectKeys, wall: float, limit: int = 8_000) -> None:
        """`wall` is Unix time: strangers are sealed under the key of the day."""
        self._keys = keys
        self._limit = limit
        self._known: dict[str, tuple[bytes, _Seal]] = {}
        self._wall = wall
        # NIST SP 800-38D §8.2.1: a fixed field, which no other process has, then a count.
        self._fixed = os.urandom(6)
        self._count = 0

    def seal(self, consumer: str, text: bytes) -> tuple[bytes, bytes]:
        """`text` sealed for a consumer, "" for a stranger: the fields of `record.Sealed`. Raises `OSError`."""
        known = self._known.get(consumer)
        if known is None:
            known = self._know(consumer)
        subject, encrypt = known
        self._count += 1
        nonce = self._fixed + self._count.to_bytes(6, "big")
        return subject, nonce + encrypt(nonce, text, None)

    def tick(self, wall: float) -> None:
        """Begin a new day for strangers; forget keys that were destroyed."""
        if int(wall // _DAY) != int(self._wall // _DAY):
            self._known.pop("", None)
        self._wall = wall
        if self._keys.refresh():
            self._known.clear()

    def _know(self, consumer: str) -> tuple[bytes, _Seal]:
        subject = subject_of(consumer, self._wall)
        if len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        self._known[consumer] = known = (subject, self._keys.cipher(subject).encrypt)
        return known
