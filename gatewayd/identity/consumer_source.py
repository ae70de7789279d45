"""Where consumers come from: the document's `[consumers]` and the file `identity.consumers_file`, JSON Lines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from gatewayd.config.consumers import ListedConsumer, Record
from gatewayd.config.convert import convert_table
from gatewayd.config.keys import join
from gatewayd.config.model import Document
from gatewayd.config.units import to_plain
from gatewayd.core.arena import Arena
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity.consumers import Index, make

_MOST_FAULTS = 20
_TRIES = 5
_decode = msgspec.json.Decoder(ListedConsumer, dec_hook=lambda kind, value: kind.parse(value)).decode  # type: ignore[attr-defined]


class _Changed(Exception):
    """The file is no longer what its digest was taken of."""


def open_consumers(document: Document, arena: Arena | None) -> Index:
    """The index of all consumers of `document`, in `arena` if there is one: found there, or made and left there.

    Blocks: for the digest of the file, and if it has to be made for about ten seconds per million consumers. Raises
    `ConfigError`.
    """
    path = document.identity.consumers_file
    for _ in range(_TRIES):
        try:
            digest = _file_digest(path)
            if arena is None:
                return Index(_make(document, path, digest))
            lease = arena.lease(_name(document, digest), lambda digest=digest: _make(document, path, digest))  # type: ignore[misc]
            return Index(lease.view, lease)
        except _Changed:
            continue
        except OSError as error:
            raise ConfigError([_unreadable(path, error.strerror or str(error))]) from None
    raise ConfigError([_unreadable(path, "it changes all the time; replace it as a whole")])


def _unreadable(path: str, why: str) -> Fault:
    return Fault("identity.consumers_file", f"cannot be read: {why}", found=path)


def _name(document: Document, digest: str) -> str:
    """A name that tells all that the index is made of."""
    own = msgspec.msgpack.encode(document.consumers, enc_hook=to_plain, order="deterministic")
    return f"consumers {digest} {hashlib.sha256(own).hexdigest()}"


def _file_digest(path: str) -> str:
    if not path:
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make(document: Document, path: str, digest: str) -> bytearray:
    """The index. Raises `_Changed` if the file is another one by now, so that no name is given to wrong content."""
    content = b""
    if path:
        with open(path, "rb") as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != digest:
            raise _Changed
    lines = _Lines(content, path)

    def records() -> Iterator[Record]:
        yield from document.consumers.items()
        yield from lines

    try:
        made = make(records())
    except ConfigError as error:
        raise ConfigError(lines.faults + [lines.placed(fault) for fault in error.faults]) from None
    if lines.faults:
        raise ConfigError(lines.faults)
    return made


class _Lines:
    """The consumers of a file's lines; `faults` are of those that are none, empty lines apart."""

    def __init__(self, content: bytes, path: str) -> None:
        self.faults: list[Fault] = []
        self._content = content
        self._path = path

    def __iter__(self) -> Iterator[Record]:
        for number, line in self._numbered():
            found = _quickly(line) or self._strictly(line, number)
            if found is not None:
                yield found.id, found
            elif len(self.faults) >= _MOST_FAULTS:
                return

    def placed(self, fault: Fault) -> Fault:
        """A fault of the index, with the line it comes from: the last one of that id."""
        if not self._path:
            return fault
        for number, line in reversed(list(self._numbered())):
            key = _key(_id_of(line))
            if fault.path == key or fault.path.startswith(f"{key}."):
                return replace(fault, file=_shown(self._path), line=number)
        return fault

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        start, number = 0, 0
        while start < len(self._content):
            end = self._content.find(b"\n", start)
            end = len(self._content) if end < 0 else end
            number += 1
            line = self._content[start:end].strip()
            start = end + 1
            if line:
                yield number, line

    def _strictly(self, line: bytes, number: int) -> ListedConsumer | None:
        """The consumer in a line; what is wrong with it, all of it, goes to `faults`."""
        consumer, faults = None, [Fault("consumers", "not an object")]
        try:
            table = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            faults = [Fault("consumers", f"not JSON: {str(error)[:100]}")]
        else:
            if isinstance(table, dict):
                consumer, faults = convert_table(ListedConsumer, table, _key(table.get("id")))
        self.faults += [replace(fault, file=_shown(self._path), line=number) for fault in faults]
        return consumer


def _quickly(line: bytes) -> ListedConsumer | None:
    """The consumer in a line, if it is plainly right.

    A pattern's `$` as msgspec asks it lets a line break pass at the end of a text; without a backslash there is none.
    """
    if b"\\" in line:
        return None
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _key(name: object) -> str:
    """The dotted key of a consumer of that id."""
    return join(("consumers", name[:64])) if isinstance(name, str) else "consumers"


def _id_of(line: bytes) -> str:
    """The id that a line says, "" if it says none."""
    try:
        return str(msgspec.json.decode(line)["id"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return ""


def _shown(path: str) -> str:
    """As errors name files: relative to where one stands, if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path
