"""The file that names the supervisor's process."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


def write(path: str) -> None:
    """Name this process in `path`, if that is not "". Nobody ever reads half of it. Raises `OSError`."""
    if not path:
        return
    draft = Path(f"{path}.{os.getpid()}")
    draft.write_text(f"{os.getpid()}\n", "ascii")
    draft.replace(path)


def read(path: str) -> int:
    """The process named in `path`, 0 if none is."""
    try:
        return int(Path(path).read_text("ascii"))
    except (OSError, ValueError):
        return 0


def remove(path: str) -> None:
    """Remove the file, unless another process has put its own name there."""
    if path and read(path) == os.getpid():
        with contextlib.suppress(OSError):
            os.unlink(path)


def move(before: str, after: str) -> None:
    """Have the file at `after`, no more at `before`. What fails is logged: it is no reason not to serve."""
    if before == after:
        return
    try:
        write(after)
    except OSError as error:
        _log.error("%s cannot be written: %s", after, error.strerror)
    remove(before)
