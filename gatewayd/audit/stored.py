"""A chain's segments as they are stored: in the state directory, and in an archive that retention moved them to."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from gatewayd.audit.keys import FOLDER
from gatewayd.audit.segments import ACTIONS, CALLS, chains, segment_path, segments

PACKED = ".gz"
_PEEK = 4096
"""Bytes that an opening surely fits in."""


class Stored:
    """The segments of one chain, by number."""

    def __init__(self, name: str, state: Path, archive: Path | None = None) -> None:
        self.name = name
        folder = state / FOLDER / name
        self._paths = archived(archive / name) if archive is not None else {}
        self._paths |= {number: segment_path(folder, number) for number in segments(folder)}
        self.numbers = sorted(self._paths)

    def read(self, number: int) -> bytes:
        """All of a segment; what is broken in an archive ends it early. Raises `OSError`."""
        path = self._paths[number]
        return unpacked(path) if path.suffix == PACKED else path.read_bytes()

    def peek(self, number: int) -> tuple[bytes, int]:
        """Its first bytes, and how many there are in all; -1 if that is not known. Raises `OSError`."""
        path = self._paths[number]
        if path.suffix == PACKED:
            return unpacked(path, _PEEK), -1
        with path.open("rb") as file:
            return file.read(_PEEK), path.stat().st_size

    def end(self, number: int, most: int, size: int | None) -> bytes:
        """The last bytes, at most so many, of its first `size`, or of all. Raises `OSError`."""
        path = self._paths[number]
        if path.suffix == PACKED:
            return unpacked(path)[:size][-most:]
        with path.open("rb") as file:
            until = path.stat().st_size if size is None else size
            file.seek(max(0, until - most))
            return file.read(min(most, until))


def unpacked(path: Path, most: int = -1) -> bytes:
    """What was packed with gzip (RFC 1952), as far as it can be read; at most so many bytes. Raises `OSError`."""
    found = bytearray()
    with gzip.open(path) as file:
        try:
            while piece := file.read1(1 << 20 if most < 0 else most - len(found)):
                found += piece
        except (EOFError, zlib.error, gzip.BadGzipFile):
            pass  # what is missing then shows in the chain
    return bytes(found)


def archived(folder: Path) -> dict[int, Path]:
    """The segments in a chain's folder of an archive, by number."""
    found = {number: segment_path(folder, number) for number in segments(folder)}
    for path in folder.glob(f"*.seg{PACKED}"):
        number = path.name.partition(".")[0]
        if number.isdecimal():
            found[int(number)] = path
    return found


def names(state: Path, archive: Path | None = None) -> list[str]:
    """The chains of a state directory and an archive: that of administrators' actions first."""
    found = {folder.name for folder in chains(state)}
    if archive is not None:
        found |= {path.name for path in archive.glob("*") if path.name == ACTIONS or path.name.startswith(CALLS)}
    return sorted(found, key=lambda name: (name != ACTIONS, len(name), name))
