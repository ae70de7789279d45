"""Where lies what must outlive the daemon, such as the counts of quotas: one directory, made when first needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gatewayd.config.model import Document
from gatewayd.errors import GatewaydError

NAME = "gatewayd"


class StateError(GatewaydError):
    """The state directory cannot be used; the text says why, and which it is."""


def state_folder(document: Document, environ: Mapping[str, str] = os.environ) -> Path:
    """`gateway.state_dir`, else what systemd gives (systemd.exec(5): STATE_DIRECTORY), else the user's own.

    The user's own is as the XDG Base Directory Specification has it. Raises `StateError` for a user without a home.
    """
    if document.gateway.state_dir:
        return Path(document.gateway.state_dir)
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    own = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(own):  # the specification has others ignored
        return Path(own, NAME)
    home = environ.get("HOME", "")
    if not os.path.isabs(home):
        raise StateError("there is no state directory, for this user has no home: set gateway.state_dir")
    return Path(home, ".local", "state", NAME)


def make_folder(folder: Path) -> Path:
    """`folder`, made for this user alone if it is not there. Raises `StateError` if nothing can be written there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"the state directory {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StateError(f"nothing can be written to the state directory {folder}")
    return folder
