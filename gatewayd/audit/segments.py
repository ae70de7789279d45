"""Where segments lie: `<state>/audit/<chain>/<number>.seg`, and who may write a chain.

Workers write the chains `calls-0`, `calls-1`, …; a worker takes the first that no process holds. What administrators
do is in the chain `actions`.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
from pathlib import Path

from gatewayd.audit.frames import BEGINNING, Before, Frame, frames
from gatewayd.audit.keys import FOLDER, Signer, give_to_owner, is_signed, public_keys
from gatewayd.audit.reading import BrokenChain, Reader

CALLS = "calls-"
ACTIONS = "actions"
_SUFFIX = ".seg"
_LOCK = "lock"
_log = logging.getLogger(__name__)


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment in its chain's folder."""
    return folder / f"{number:010d}{_SUFFIX}"


def segments(folder: Path) -> list[int]:
    """Numbers of the segments in a chain's folder, in order."""
    return sorted({int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal()})


def chains(state: Path) -> list[Path]:
    """Folders of all chains of the state directory, in order of their names."""
    return sorted(path for path in (state / FOLDER).glob("*") if path.name == ACTIONS or path.name.startswith(CALLS))


def hold_calls(state: Path) -> tuple[Path, int]:
    """The folder of a chain of calls that this process alone writes from now on, and the descriptor that holds it.

    It is free again once the descriptor is closed, by whatever means. Raises `OSError`.
    """
    for number in itertools.count():
        folder = state / FOLDER / f"{CALLS}{number}"
        descriptor = hold(folder, wait=False)
        if descriptor is not None:
            return folder, descriptor
    raise AssertionError("counting ends nowhere")


def hold(folder: Path, *, wait: bool) -> int | None:
    """Have a chain's folder for this process alone: the descriptor that holds it; None if another has it.

    `wait`: until nobody has it any more. Raises `OSError`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_to_owner(folder)
    give_to_owner(folder / _LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            return None
        raise
    return descriptor


class Found:
    """What a chain was found to end in: what `audit.chain.Chain` goes on from.

    A segment that somebody changed does not stop the gateway: the chain goes on from the last frame that counts before
    the change, and the opening says how many bytes stand behind it, so that `audit.verify` shows them.
    """

    def __init__(self, folder: Path, signer: Signer) -> None:
        """Reads the last segment that says anything. To be called by who holds the chain. Raises `OSError`."""
        self.segment = self.records = 0
        self.previous = BEGINNING
        self.before: Before | None = None
        self.extendable = False
        """Whether the last segment is this key's, has no end yet, and nothing stands behind what counts."""
        for number in reversed(segments(folder)):
            self.segment = self.segment or number
            data = _settled(segment_path(folder, number))
            reader = _reader(data, folder, number, signer)
            if reader is not None:
                self._read(reader, data, number, signer)
                return

    def _read(self, reader: Reader, data: bytes, number: int, signer: Signer) -> None:
        try:
            reader.feed(data, reader.at)
        except BrokenChain as error:
            _log.error("audit: %s; the chain goes on from before it", error)
        self.previous, self.records = reader.previous, reader.records
        self.before = Before(number, reader.at, len(data) - reader.at)
        whole = number == self.segment and not self.before.dropped and not reader.ended
        self.extendable = whole and reader.opening.key == signer.id

    @property
    def fresh(self) -> bool:
        """Whether nothing was found."""
        return self.before is None


def _settled(path: Path) -> bytes:
    """A segment's bytes, on the disk: the next segment is about to say how many they are."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        return file.read()


def _reader(data: bytes, folder: Path, number: int, signer: Signer) -> Reader | None:
    """A reader behind a segment's opening; None if it was cut off before that was whole, or is none of ours."""
    try:
        reader = Reader.of_segment(data, signer)
    except BrokenChain as error:
        _log.error("audit: %s: %s", folder.name, error.why)
        return None
    if reader is None:
        return None
    said = reader.opening
    if (said.chain, said.segment) == (folder.name, number) and _is_ours(next(frames(data)), said.key, folder, signer):
        return reader
    _log.error("audit: %s, segment %d was not written by this gateway, or not there", folder.name, number)
    return None


def _is_ours(opening: Frame, key: str, folder: Path, signer: Signer) -> bool:
    if key == signer.id:
        return is_signed(signer.public, opening)
    public = public_keys(folder.parent.parent).get(key)
    return public is not None and is_signed(public, opening)
