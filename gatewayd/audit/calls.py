"""Recorded calls of a time, read offline: all chains together, in the order in which the calls came.

Nothing is proven here (`audit.verify`): what is broken is told of and passed over.
"""

from __future__ import annotations

import gzip
import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

import msgspec

from gatewayd.audit.frames import UNREADABLE
from gatewayd.audit.keys import FOLDER, Signer
from gatewayd.audit.reading import BrokenChain, Reader
from gatewayd.audit.record import Call, Personal, Sealed, decode_call
from gatewayd.audit.segments import CALLS, segment_path, segments
from gatewayd.audit.stored import PACKED, archived, names

BLOCK = 1024 * 1024
"""Bytes of a segment read at a time; more only where more was written at once."""
WINDOW = 16_384
"""Calls held to bring them into order: records are written when calls end, not when they begin."""
LONGEST = 3600 * 10**9
"""Nanoseconds that a call may take and still be found by its beginning, where later segments need not be read."""
_PEEK = 4096

Broken = Callable[[BrokenChain], None]
"""Is told of what cannot be read."""


class Opens(Protocol):
    """What opens personal data (`audit.subjects.SubjectKeys`)."""

    def open(self, sealed: Sealed) -> Personal | None:
        """What was sealed; None if its key was destroyed."""
        ...


class Recorded(NamedTuple):
    """A call on record. `number` counts the chain's records from 1."""

    chain: str
    number: int
    call: Call


class Source(NamedTuple):
    """Where records are."""

    state: Path
    subjects: Opens | None = None
    """None: what is sealed stays closed."""
    signer: Signer | None = None
    """With it, what others wrote is not taken for ours, and values hashed under a former key are left out."""
    archive: Path | None = None
    broken: Broken = lambda error: None


def recorded(source: Source, since: int, until: int) -> Iterator[Recorded]:
    """Calls that began from `since` on and before `until` (nanoseconds since the epoch), nearly in that order.

    `Call.personal` holds what could be opened, None what could not. Raises `OSError`.
    """
    chains = [
        _chain(source, name, since, until) for name in names(source.state, source.archive) if name.startswith(CALLS)
    ]
    return _in_order(heapq.merge(*chains, key=_end))


def _end(each: Recorded) -> int:
    return each.call.at + each.call.total * 1000


def _in_order(ended: Iterable[Recorded]) -> Iterator[Recorded]:
    """By their beginnings what comes by its end, as far as `WINDOW` reaches."""
    waiting: list[tuple[int, str, int, Recorded]] = []
    for each in ended:
        entry = (each.call.at, each.chain, each.number, each)
        if len(waiting) < WINDOW:
            heapq.heappush(waiting, entry)
        else:
            yield heapq.heappushpop(waiting, entry)[3]
    while waiting:
        yield heapq.heappop(waiting)[3]


def _chain(source: Source, name: str, since: int, until: int) -> Iterator[Recorded]:
    """The calls of one chain, in the order of their records."""
    for path in _paths(source, name, since, until):
        for number, body, ours in _records(source, path):
            try:
                call = decode_call(body)
            except UNREADABLE as error:
                source.broken(BrokenChain(name, int(path.name.partition(".")[0]), number, f"no call: {error}"))
                continue
            if since <= call.at < until:
                yield Recorded(name, number, _opened(call, source.subjects, ours))


def _paths(source: Source, name: str, since: int, until: int) -> Iterator[Path]:
    """The segments that may hold calls of that time."""
    folder = source.state / FOLDER / name
    stored = archived(source.archive / name) if source.archive is not None else {}
    stored |= {number: segment_path(folder, number) for number in segments(folder)}
    begun = [(_begins(path), path) for _, path in sorted(stored.items())]
    for (at, path), next_at in zip_longest(begun, [at for at, _ in begun[1:]]):
        if next_at is not None and next_at < since:
            continue  # all that is in it ended before
        if at is not None and at > until + LONGEST:
            return
        yield path


def _begins(path: Path) -> int | None:
    """When a segment was begun, None if it does not say."""
    try:
        with _open(path) as file:
            reader = Reader.of_segment(file.read(_PEEK))
    except (BrokenChain, EOFError, gzip.BadGzipFile):
        return None
    return None if reader is None else reader.opening.at


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == PACKED else path.open("rb")


def _records(source: Source, path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(Number, record, whether it was made under the present key) of a segment, as far as it is sound."""
    try:
        with _open(path) as file:
            yield from _read(source, file)
    except BrokenChain as error:
        source.broken(error)
    except (EOFError, gzip.BadGzipFile) as error:
        source.broken(BrokenChain(path.parent.name, int(path.name.partition(".")[0]), 0, str(error)))


def _read(source: Source, file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    data = file.read(BLOCK)
    reader = Reader.of_segment(data, source.signer)
    if reader is None:
        return
    ours = source.signer is None or source.signer.id == reader.opening.key
    start = reader.at
    while True:
        first, base = reader.records + 1, reader.at - start
        try:
            found = reader.feed(data, start)
        except BrokenChain as error:
            yield from _numbered(first, error.counted, [*reader.gaps], ours)
            raise
        yield from _numbered(first, found, [*reader.gaps], ours)
        more = file.read(BLOCK)
        if not more:
            return
        data, start = data[reader.at - base :] + more, 0


def _numbered(
    first: int, found: list[bytes], gaps: list[tuple[int, int]], ours: bool
) -> Iterator[tuple[int, bytes, bool]]:
    for at, body in enumerate(found):
        while gaps and gaps[0][0] <= at:
            first += gaps.pop(0)[1]
        yield first + at, body, ours


def _opened(call: Call, subjects: Opens | None, ours: bool) -> Call:
    if call.sealed is not None and subjects is not None:
        call = msgspec.structs.replace(call, personal=subjects.open(call.sealed), sealed=None)
    if not ours and call.personal is not None:
        call = msgspec.structs.replace(call, personal=msgspec.structs.replace(call.personal, values=[]))
    return call
