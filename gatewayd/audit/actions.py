"""What administrators do goes on record, too: the chain `actions`, which every process of the gateway appends to, one
at a time and durably.
"""

from __future__ import annotations

import errno
import os
import pwd
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gatewayd.audit.anchors import Anchor
from gatewayd.audit.chain import Chain
from gatewayd.audit.keys import FOLDER, Signer, SigningKeyError, give_to_owner, load_signer, rotate, sync_folder
from gatewayd.audit.segments import ACTIONS, Found, hold, segment_path
from gatewayd.errors import GatewaydError

ANCHOR, RETIRE, KEY = "audit.anchor", "audit.retire", "audit.key"
"""The actions that `audit.verify` goes by."""
SEGMENT_SIZE = 1024 * 1024
"""Bytes after which a segment ends: each action reads the last one."""
PATIENCE = 10.0
"""Seconds that others get to finish theirs."""
_SECRET = frozenset(("hash", "key", "password", "pepper", "private", "secret", "token"))
_PAUSE = 0.02
_encode = msgspec.msgpack.Encoder().encode


class ActionError(GatewaydError):
    """An action could not be put on record; the text says why."""


class Action(msgspec.Struct, array_like=True, frozen=True):
    """A record of the chain `actions`."""

    at: int
    """Nanoseconds since the epoch."""
    action: str
    """Such as `reload` or `keys.new`."""
    actor: str
    """Who: a user of the system, an address, a signal."""
    target: str = ""
    """What it was done to."""
    before: Any = None
    after: Any = None
    reason: str = ""
    generation: int = 0
    """Of the configuration; 0: not known."""


decode_action = msgspec.msgpack.Decoder(Action).decode
"""A record's bytes → `Action`. Raises `msgspec.DecodeError`."""


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """In `ANCHOR`: a chain was signed up to here."""

    chain: str
    segment: int
    records: int
    digest: bytes
    """Of the signed frame."""


class Retired(msgspec.Struct, array_like=True, frozen=True):
    """In `RETIRE`: a segment of the chain `target` that goes."""

    segment: int
    first: int
    """Its first record's number."""
    last: int
    """Its last one's: `first` - 1 if it has none."""
    previous: bytes
    """What its opening goes on from."""
    digest: bytes
    """What the next one's goes on from."""


def act(
    state: Path,
    action: str,
    *,
    actor: str,
    target: str = "",
    before: Any = None,
    after: Any = None,
    reason: str = "",
    generation: int = 0,
    signer: Signer | None = None,
    wall: Callable[[], float] = time.time,
    patience: float = PATIENCE,
) -> int:
    """Put an action on record, on the disk and signed; the record's number. To be done before what it tells of.

    What `before` and `after` have under a secret's name is left out. `signer`: that of `state` if not given.
    Raises `ActionError`.
    """
    at = int(wall() * 1e9)
    told = Action(at, action, actor, target, redacted(before), redacted(after), reason, generation)
    folder = state / FOLDER / ACTIONS
    try:
        lock = _hold(folder, patience)
        try:
            return _append(folder, signer or load_signer(state), _encode(told), at)
        finally:
            os.close(lock)
    except (OSError, SigningKeyError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ActionError(f"the action {action} cannot be put on record in {folder}: {why}") from error


def anchor(state: Path, heads: Iterable[Anchor], *, actor: str) -> int:
    """Put on record up to where chains are signed (`anchors.heads`), so that none can be cut short unseen.

    Raises `ActionError`.
    """
    marks = [Mark(each.chain, each.segment, each.records, bytes.fromhex(each.digest)) for each in heads]
    return act(state, ANCHOR, actor=actor, after=marks)


def retire(state: Path, chain: str, going: Sequence[Retired], *, actor: str, to: str) -> int:
    """Put on record that segments of a chain go, `to` an archive or nowhere (""). Raises `ActionError`."""
    return act(state, RETIRE, actor=actor, target=chain, before=to, after=list(going), reason="audit.retention")


def change_key(state: Path, *, actor: str, reason: str) -> str:
    """Have another key sign from now on; the old one signs for it. Its id. Raises `ActionError`, `SigningKeyError`."""

    def announce(old: Signer, new: Signer) -> None:
        raw = new.public.public_bytes_raw()
        act(state, KEY, actor=actor, target=new.id, before=old.id, after=raw, reason=reason, signer=old)

    try:
        return rotate(state, announce).id
    except OSError as error:
        raise SigningKeyError(f"the key that signs the audit cannot be replaced: {error.strerror}") from error


def user(uid: int | None = None) -> str:
    """A user of the system as actions name actors: this process's if no id is given."""
    number = os.getuid() if uid is None else uid
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = "unknown"
    return f"{name} ({number})"


def redacted(value: Any) -> Any:
    """The same without what stands under a secret's name."""
    if isinstance(value, Mapping):
        return {name: "(redacted)" if name in _SECRET else redacted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def _hold(folder: Path, patience: float) -> int:
    until = time.monotonic() + patience
    while True:
        lock = hold(folder, wait=False)
        if lock is not None:
            return lock
        if time.monotonic() > until:
            raise OSError(errno.EAGAIN, "another process keeps it locked")
        time.sleep(_PAUSE)


def _append(folder: Path, signer: Signer, body: bytes, at: int) -> int:
    found = Found(folder, signer)
    chain = Chain(ACTIONS, signer, found.segment, found.previous, found.records)
    before = found.before
    if found.extendable and before is not None:
        path = segment_path(folder, found.segment)
        if before.size < SEGMENT_SIZE:
            _write(path, before.size, chain.append([body]) + chain.head(at))
            return chain.records
        _write(path, before.size, chain.head(at, end=True))
        before = None
    opening = chain.open(at, before)
    _write(segment_path(folder, chain.segment), 0, opening + chain.append([body]) + chain.head(at))
    sync_folder(folder)
    return chain.records


def _write(path: Path, size: int, data: bytes) -> None:
    """Append to the file of `size` bytes, durably, or leave it as it was; one of 0 bytes is made."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (0 if size else os.O_CREAT | os.O_EXCL)
    descriptor = os.open(path, flags, 0o600)
    try:
        give_to_owner(path)
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        if not size:
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)
