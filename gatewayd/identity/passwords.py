"""Names and passwords (RFC 7617), checked against argon2id hashes (RFC 9106).

A hash takes tens of milliseconds of a core and tens of MiB by design. So it is made in a few threads beside the event
loop, once for all who show the same at the same time; those who wait for one are limited in number, and what has just
been found right is remembered for a while, under a digest that is of no use outside of this process. Nobody learns from
the time an answer takes whether a name is known: for one that is not, the hash of one that is gets checked in vain.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from gatewayd.errors import GatewaydError
from gatewayd.identity.fetch import FetchError, Shared

REMEMBERED = 4096
"""Logins found right that are remembered, per worker and instance."""
MEMORY, PASSES, LANES = 19 * 1024, 2, 1
"""KiB, passes and lanes of new hashes: the least that OWASP advises, for a gateway makes many."""
_CONTROLS = bytes([*range(32), 127])
_DECOY = "$argon2id$v=19$m=19456,t=2,p=1$8VTnJukSy2+ou9XGe6YgcA$zj2H9u1Orsa3C7/qBvLP/VDmmJZcD8oX7yKQTlA1BlY"
"""Checked in vain until a real one has been seen. Nobody's password."""


class Busy(GatewaydError):
    """Too many wait for a hash already."""


class Login(NamedTuple):
    """What a caller shows."""

    name: bytes
    password: bytes
    """As `prepare` leaves it."""


def prepare(password: str) -> bytes:
    """A password as it is hashed: what looks the same is the same, however a keyboard composed it (RFC 8265 §4.2)."""
    return unicodedata.normalize("NFC", password).encode()


def read_login(value: bytes) -> Login | None:
    """The login in an Authorization field of the scheme Basic; None for what could be read in two ways, or not at all.

    The name ends at the first colon; both parts are UTF-8 without control characters, their base64 has one spelling.
    """
    token = value.partition(b" ")[2].strip(b" ")
    try:
        decoded = binascii.a2b_base64(token, strict_mode=True)
        name, colon, password = decoded.partition(b":")
        if not colon or binascii.b2a_base64(decoded, newline=False) != token:
            return None
        if decoded.translate(None, _CONTROLS) != decoded:
            return None
        name.decode()
        return Login(name, prepare(password.decode()))
    except ValueError:
        return None


def hash_password(password: str) -> str:
    """The argon2id hash of a new password, as configurations hold it (PHC string)."""
    from argon2 import PasswordHasher

    return PasswordHasher(PASSES, MEMORY, LANES).hash(prepare(password))


class Passwords:
    """Checks logins, each worker for itself."""

    def __init__(self, monotonic: Callable[[], float], threads: int, queue: int) -> None:
        """`threads` hashes are made at a time, and `queue` more may wait."""
        from argon2 import low_level

        self._check = low_level.verify_secret
        self._kind = low_level.Type.ID
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(threads, "password")
        self._flights: Shared[bool] = Shared(threads + queue)
        self._right: dict[bytes, float] = {}  # by digest: when it was found right
        self._key = os.urandom(32)
        self._decoy = _DECOY

    def digest(self, login: Login, stored: str | None) -> bytes:
        """What stands for a login here; another once the hash it is checked against changes."""
        parts = b"%d:%b%d:%b%b" % (len(login.name), login.name, len(login.password), login.password, _bytes(stored))
        return hmac.digest(self._key, parts, "sha256")

    def remembers(self, digest: bytes, seconds: float) -> bool:
        """Whether that login has been found right in the last `seconds`."""
        found = self._right.get(digest)
        return found is not None and self._monotonic() - found < seconds

    async def is_right(self, digest: bytes, login: Login, stored: str | None) -> bool:
        """Whether the password is the one hashed in `stored`; None takes as long, and it is not. Raises `Busy`."""
        try:
            return await self._flights.get(digest, lambda: self._hash(digest, login, stored))
        except FetchError:
            raise Busy from None

    async def _hash(self, digest: bytes, login: Login, stored: str | None) -> bool:
        against = self._decoy if stored is None else stored
        matches = await asyncio.get_running_loop().run_in_executor(self._pool, self._matches, against, login.password)
        if stored is None:
            return False
        self._decoy = stored
        if matches:
            self._remember(digest)
        return matches

    def _matches(self, stored: str, password: bytes) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._check(stored.encode(), password, self._kind)
        except (VerificationError, InvalidHashError):
            return False

    def _remember(self, digest: bytes) -> None:
        self._right.pop(digest, None)
        if len(self._right) >= REMEMBERED:
            del self._right[next(iter(self._right))]
        self._right[digest] = self._monotonic()


def _bytes(stored: str | None) -> bytes:
    return b"" if stored is None else stored.encode()
