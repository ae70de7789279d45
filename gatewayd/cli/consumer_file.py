"""The file of consumers as the command line changes it: one at a time, as a whole or not at all, and what it does not
know stays as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from gatewayd.errors import GatewaydError

Table = dict[str, Any]
"""A consumer, or a key of one, as JSON has it."""


class ConsumerFile:
    """The lines of a consumers file; those that are changed are written anew, the others stay to the byte."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path = path
        self._lines = content.splitlines()
        self._tables: dict[str, tuple[int, Table]] = {}
        for at, line in enumerate(self._lines):
            if line.strip():
                table = _table(line, f"{path}:{at + 1}")
                self._tables[table["id"]] = at, table

    def __iter__(self) -> Iterator[Table]:
        """The consumers, in the file's order."""
        return (table for _, table in self._tables.values())

    def consumer(self, name: str) -> Table | None:
        """The consumer of that id, to be looked at or, with `put`, changed."""
        found = self._tables.get(name)
        return found[1] if found else None

    def put(self, table: Table) -> None:
        """Have `table` in place of the consumer of its id, or behind all others."""
        at = self._tables[table["id"]][0] if table["id"] in self._tables else len(self._lines)
        self._tables[table["id"]] = at, table
        self._lines[at : at + 1] = [msgspec.json.encode(table)]

    def content(self) -> bytes:
        """The file's bytes."""
        return b"".join(line + b"\n" for line in self._lines)


def read(path: str) -> ConsumerFile:
    """The file as it is; empty if there is none."""
    try:
        return ConsumerFile(path, Path(path).read_bytes())
    except FileNotFoundError:
        return ConsumerFile(path, b"")


@contextlib.contextmanager
def changing(path: str) -> Iterator[ConsumerFile]:
    """The file, locked against others who change it; written when the block is left, unless by an exception."""
    with _locked(path) as held:
        file = ConsumerFile(path, held.read())
        before = file.content()
        yield file
        after = file.content()
        if after != before:
            _replace(path, after, os.fstat(held.fileno()))


@contextlib.contextmanager
def _locked(path: str) -> Iterator[IO[bytes]]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                yield file
                return


def _is_still(path: str, descriptor: int) -> bool:
    """Whether the file that was waited for is the one at `path`; whoever held it has commonly replaced it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _replace(path: str, content: bytes, was: os.stat_result) -> None:
    """Put a file in the place of another, with its owner and mode: whoever reads sees the one or the other, whole."""
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(real)}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, was.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, was.st_uid, was.st_gid)
            os.fsync(descriptor)
        os.rename(name, real)
    except BaseException:
        os.unlink(name)
        raise
    whole = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(whole)
    finally:
        os.close(whole)


def _table(line: bytes, place: str) -> Table:
    try:
        table = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise GatewaydError(f"{place}: not JSON: {error}") from None
    if not isinstance(table, dict) or not isinstance(table.get("id"), str):
        raise GatewaydError(f"{place}: no consumer: an object with an id is wanted")
    if not isinstance(table.get("keys", []), list):
        raise GatewaydError(f"{place}: keys: wrong type; allowed: a list")
    return table
