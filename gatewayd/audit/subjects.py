"""A key for each person, so that destroying it erases what records tell of them.

Records seal personal data (`record.Personal`) under the key of their subject: the consumer, or the day for strangers.
Keys lie in 256 files `<state>/audit/subjects/<two hex digits>` of slots, 16 bytes subject and 32 bytes key; a slot of
zeros was destroyed. On disks and backups that keep what was overwritten, the key may live on: they are to be
encrypted, or their copies to end with the retention.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gatewayd.audit.keys import FOLDER, sync_folder
from gatewayd.audit.record import Personal, Sealed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SUBJECT, _KEY = 16, 32
_SLOT = _SUBJECT + _KEY
NONCE = 12
"""Bytes of a nonce before what was sealed."""
_personal = msgspec.msgpack.Decoder(Personal).decode


def subject_of(consumer: str, at: float) -> bytes:
    """Whose key seals a call of `consumer`; a stranger's ("") is that of the day (UTC) of `at`, Unix time."""
    name = f"consumer:{consumer}" if consumer else time.strftime("day:%Y-%m-%d", time.gmtime(at))
    return hashlib.blake2b(name.encode(), digest_size=_SUBJECT).digest()


class SubjectKeys:
    """The keys of a state directory. At most `limit` are kept in memory, 2.5 KiB each."""

    def __init__(self, state: Path, limit: int = 8_000) -> None:
        self._folder = state / FOLDER / "subjects"
        self._erased = state / FOLDER / "erased"
        self._limit = limit
        self._ciphers: dict[bytes, AESGCM | None] = {}
        self._invalid: type[Exception] | tuple[()] = ()  # InvalidTag, once there is a cipher that can raise it
        self._changed = self._changes()

    def cipher(self, subject: bytes) -> AESGCM:
        """The subject's, to seal with; its key is made if there is none. Raises `OSError`."""
        return self._ciphers.get(subject) or self._keep(subject, self._find(subject) or self._make(subject))

    def open(self, sealed: Sealed) -> Personal | None:
        """What was sealed; None if its key was destroyed. Raises `OSError`."""
        subject = sealed.subject
        cipher = self._ciphers.get(subject)
        if cipher is None:
            if subject in self._ciphers or not (key := self._find(subject)):
                self._remember(subject, None)
                return None
            cipher = self._keep(subject, key)
        try:
            return _personal(cipher.decrypt(sealed.text[:NONCE], sealed.text[NONCE:], None))
        except self._invalid:  # sealed under a key before this one
            return None

    def destroy(self, consumer: str) -> bytes:
        """Make unreadable what was sealed for `consumer` so far. Returns the subject; raises `OSError`.

        A mark of it stays in `<state>/audit/erased`, for those who hold copies of what was sealed.
        """
        subject = subject_of(consumer, 0.0)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _Locked(self._path(subject)) as file:
            at = _slot(file.content, subject)
            if at >= 0:
                os.pwrite(file.descriptor, bytes(_SLOT), at)
                os.fsync(file.descriptor)
        self._erased.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = self._erased / subject.hex()
        mark.touch(mode=0o600)
        now = time.time_ns()  # the kernel's own would be the same for all within some milliseconds
        for path in (mark, self._erased):
            os.utime(path, ns=(now, now))
        sync_folder(self._erased)
        self.refresh()
        return subject

    def refresh(self) -> bool:
        """Forget what is in memory if keys were destroyed since: True then. One `stat`."""
        changed = self._changes()
        if changed == self._changed:
            return False
        self._changed = changed
        self._ciphers.clear()
        return True

    def _changes(self) -> int:
        try:
            return os.stat(self._erased).st_mtime_ns
        except OSError:
            return 0

    def _path(self, subject: bytes) -> Path:
        return self._folder / subject[:1].hex()

    def _find(self, subject: bytes) -> bytes:
        try:
            content = self._path(subject).read_bytes()
        except FileNotFoundError:
            return b""
        at = _slot(content, subject)
        return content[at + _SUBJECT : at + _SLOT] if at >= 0 else b""

    def _make(self, subject: bytes) -> bytes:
        """A new key, on the disk before anything is sealed with it; or that of another process that was quicker."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _Locked(self._path(subject)) as file:
            at = _slot(file.content, subject)
            if at >= 0:
                return file.content[at + _SUBJECT : at + _SLOT]
            key = os.urandom(_KEY)
            whole = len(file.content) // _SLOT * _SLOT  # behind what a crash cut off
            os.pwrite(file.descriptor, subject + key, whole)
            os.fdatasync(file.descriptor)
            return key

    def _keep(self, subject: bytes, key: bytes) -> AESGCM:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._invalid = InvalidTag
        cipher = AESGCM(key)
        self._remember(subject, cipher)
        return cipher

    def _remember(self, subject: bytes, cipher: AESGCM | None) -> None:
        if len(self._ciphers) >= self._limit:
            del self._ciphers[next(iter(self._ciphers))]
        self._ciphers[subject] = cipher


class _Locked:
    """A file of slots for this process alone; made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Locked:
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        self.content = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _slot(content: bytes, subject: bytes) -> int:
    """Where the subject's slot begins; -1: there is none."""
    at = content.find(subject)
    while at >= 0 and (at % _SLOT or at + _SLOT > len(content)):
        at = content.find(subject, at + 1)
    return at
