"""Where segments lie: `<state>/audit/<chain>/<number>.seg`, and who may write a chain.

Workers write the chains `calls-0`, `calls-1`, …; a worker takes the first that no process holds. What administrators
do is in the chain `actions`.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from pathlib import Path

from gatewayd.audit.frames import BEGINNING, Before
from gatewayd.audit.keys import FOLDER, Signer
from gatewayd.audit.reading import Reader

CALLS = "calls-"
ACTIONS = "actions"
_SUFFIX = ".seg"
_LOCK = "lock"


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment in its chain's folder."""
    return folder / f"{number:010d}{_SUFFIX}"


def segments(folder: Path) -> list[int]:
    """Numbers of the segments in a chain's folder, in order."""
    return sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())


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
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            return None
        raise
    return descriptor


class Found:
    """What a chain was found to end in: what `audit.chain.Chain` goes on from."""

    def __init__(self, folder: Path, signer: Signer) -> None:
        """Reads the last segment that says anything. To be called by who holds the chain. Raises `OSError`."""
        self.segment = self.records = 0
        self.previous = BEGINNING
        self.before: Before | None = None
        for number in reversed(segments(folder)):
            data = segment_path(folder, number).read_bytes()
            self.segment = self.segment or number
            reader = Reader.of_segment(data, signer)
            if reader is None:
                continue  # cut off before its opening was whole
            reader.feed(data, reader.at)
            self.previous, self.records = reader.previous, reader.records
            self.before = Before(number, reader.at, len(data) - reader.at)
            return

    @property
    def fresh(self) -> bool:
        """Whether nothing was found."""
        return self.before is None
