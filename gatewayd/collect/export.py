"""Calls as files: Parquet, CSV, or a JSON object per line. Written by DuckDB, in the order in which they came in."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import duckdb

from gatewayd.collect.filters import Filters, quoted, where
from gatewayd.collect.logs import SHOWN
from gatewayd.collect.parameters import Wrong
from gatewayd.core.state import make_folder
from gatewayd.errors import GatewaydError

Format = Literal["parquet", "csv", "ndjson"]
FORMATS: Final[dict[Format, str]] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
}
"""The formats, which are the suffixes of files too, and their media types."""
FOLDER: Final = "exports"
_OPTIONS: Final = {
    # A row group stands in memory while it grows.
    "parquet": "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 61440, USE_TMP_FILE false",
    "csv": "FORMAT csv, HEADER, USE_TMP_FILE false",
    "ndjson": "FORMAT json, USE_TMP_FILE false",
}
_ROW: Final = {"parquet": 150, "csv": 600, "ndjson": 1200}
"""Bytes of a call, rather too many."""
SPARE: Final = 1 << 30
"""Bytes that stay free on the disk."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}", re.ASCII)
_PART, _ABANDONED = ".part", 6 * 3600.0
"""Seconds after which a part belongs to nobody any more: no export takes so long."""


class NoRoom(GatewaydError):
    """The file would leave too little room on its disk."""


class AlreadyThere(GatewaydError):
    """There is a file of this name."""


def file_name(text: str) -> str:
    """A name for a file in the folder of exports. Raises `Wrong`."""
    if not _NAME.fullmatch(text):
        raise Wrong("is no name of a file", "letters, digits, dots, dashes and underscores; no folder")
    return text


def export(cursor: duckdb.DuckDBPyConnection, filters: Filters, kind: Format, path: Path, *, captured: bool) -> int:
    """Write the calls that fulfil `filters` to a file; how many they are. `captured`: what was captured, too.

    Raises `NoRoom` rather than to fill a disk that call records need, too.
    """
    condition, values = where(filters)
    bodies = 'coalesce(sum(octet_length("captured")), 0)' if captured else "0"
    sizes = cursor.execute(f"SELECT count(*) * {_ROW[kind]} + {bodies} * 2 FROM calls WHERE {condition}", values)  # noqa: S608
    expected = sizes.fetchone()
    if expected and expected[0] > shutil.disk_usage(path.parent).free - SPARE:
        raise NoRoom(f"about {expected[0] // 1_000_000} MB would leave too little room in {path.parent}")
    columns = ", ".join(_columns(kind, captured=captured))
    target = str(path).replace("'", "''")
    chosen = f"SELECT {columns} FROM calls WHERE {condition}"  # noqa: S608
    found = cursor.execute(f"COPY ({chosen}) TO '{target}' ({_OPTIONS[kind]})", values).fetchone()
    return int(found[0]) if found else 0


def _columns(kind: Format, *, captured: bool) -> Iterator[str]:
    """Parquet has types for times and bytes; texts have RFC 3339 and base64."""
    for column in SHOWN:
        if column == "at" and kind != "parquet":
            yield """strftime("at", '%Y-%m-%dT%H:%M:%S.%fZ') AS "at\""""
        else:
            yield quoted(column)
    if captured:
        yield '"captured"' if kind == "parquet" else 'to_base64("captured") AS "captured"'


@contextlib.contextmanager
def part_of(folder: Path) -> Iterator[Path]:
    """A new name to write an export under, in a folder that is made if it is not there. What lies there then, goes.

    Raises `core.state.StateError`, `OSError`.
    """
    make_folder(folder)
    _clear(folder)
    part = folder / f".{secrets.token_hex(8)}{_PART}"
    part.touch(0o600)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def keep(part: Path, name: str) -> Path:
    """Give an export that is whole its name, durably. Raises `AlreadyThere`, `OSError`."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    path = part.with_name(name)
    try:
        os.link(part, path)
    except FileExistsError:
        raise AlreadyThere(f"there is an export {name} already") from None
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path


def _clear(folder: Path) -> None:
    """Remove what processes left that were killed while they exported."""
    for path in folder.glob(f".*{_PART}"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _ABANDONED:
                path.unlink()
