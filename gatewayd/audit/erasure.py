"""Erasing a person: its key is destroyed, and what was sealed under it is noise from then on. The chain stays valid."""

from __future__ import annotations

from pathlib import Path

from gatewayd.audit.keys import FOLDER, give_to_owner
from gatewayd.audit.subjects import SubjectKeys


def erase(state: Path, consumer: str) -> bytes:
    """Destroy the key of a consumer. Its subject; what is made by that is the daemon's. Raises `OSError`."""
    subject = SubjectKeys(state).destroy(consumer)
    folder = state / FOLDER
    keys, marks = folder / "subjects", folder / "erased"
    for path in (keys, keys / subject[:1].hex(), marks, marks / subject.hex()):
        give_to_owner(path)
    return subject
