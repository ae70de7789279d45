"""From records to rows of `calls`: columns as NumPy arrays, which DuckDB reads as they lie in memory.

What many calls have in common (the operation, the caller, and a set of further facts) is decoded once per batch and
stands in tables of its own, which `INSERT` joins again: that costs less than a text for each row and column.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import duckdb
import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from gatewayd.audit.record import Caller, Operation, Personal, Sealed, Tls, Trace
from gatewayd.collect.schema import CALLS_COLUMNS
from gatewayd.errors import GatewaydError

Open = Callable[[Sealed], Personal | None]
"""`audit.subjects.SubjectKeys.open`."""
Columns = dict[str, NDArray[Any]]

_log = logging.getLogger(__name__)


class Line(msgspec.Struct, array_like=True, gc=False):
    """A record as `audit.record.Call` has it, with those parts undecoded that many records share."""

    at: int
    request_id: bytes
    operation: Raw
    caller: Raw
    method: bytes
    status: int
    code: str
    reason: str
    verdicts: Raw
    target: str
    attempts: int
    total: int
    upstream: int
    bytes_in: int
    bytes_out: int
    listener: str
    scheme: bytes
    host: bytes
    http_version: bytes
    tls: Raw
    trace: Trace | None
    personal: Raw = Raw(b"\xc0")
    sealed: Sealed | None = None


class Batch(NamedTuple):
    """Rows of one chain, the first five arrays and tables for DuckDB, the rest for rollups, an entry per row."""

    lines: Columns
    operations: Columns
    callers: Columns
    facts: Columns
    place: NDArray[np.int64]
    """A number of `Names.places`."""
    who: NDArray[np.int64]
    """A number of `Names.people`."""
    refused: NDArray[np.int64]
    """1 for a call that was refused here, else 0."""
    unreadable: int
    """Records that are none of ours, or of a later version's; they have no row."""


class Numbered:
    """Numbers for tuples of texts."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}
        self._texts: list[tuple[str, ...]] = []

    def __len__(self) -> int:
        return len(self._texts)

    def number(self, texts: tuple[str, ...]) -> int:
        """The number of this one."""
        found = self._numbers.setdefault(texts, len(self._texts))
        if found == len(self._texts):
            self._texts.append(texts)
        return found

    def columns(self, numbers: NDArray[np.int64], names: Sequence[str]) -> Columns:
        """The texts of those numbers that occur, with their number as `id`."""
        used = np.unique(numbers)
        found: Columns = {"id": used}
        rows = [self._texts[number] for number in used.tolist()]
        return found | {name: _objects([row[index] for row in rows]) for index, name in enumerate(names)}


class Names:
    """What rollups are by, in numbers that are the same for all batches."""

    def __init__(self) -> None:
        self.places = Numbered()
        """Route and service."""
        self.people = Numbered()
        """Tenant and consumer."""

    def __len__(self) -> int:
        return len(self.places) + len(self.people)


_line = msgspec.msgpack.Decoder(Line).decode
_operation = msgspec.msgpack.Decoder(Operation).decode
_caller = msgspec.msgpack.Decoder(Caller | None).decode
_verdicts = msgspec.msgpack.Decoder(list[tuple[str, str]] | None).decode
_tls = msgspec.msgpack.Decoder(Tls | None).decode
_personal = msgspec.msgpack.Decoder(Personal | None).decode
_encode = msgspec.msgpack.Encoder().encode
_NIL: Final = b"\xc0"
_ERASED: Final = (None, None, None, None, None)
_NOBODY: Final = Caller("")
_UNTRACED: Final = Trace("", "")

_NUMBERS: Final = ("at", "status", "attempts", "total_us", "upstream_us", "bytes_in", "bytes_out", "sampled")
_TEXTS: Final = (
    "request_id",
    "trace_id",
    "span_id",
    "parent_id",
    "subject",
    "client",
    "peer",
    "agent",
    "values",
    "captured",
)
_OPERATION: Final = ("route", "service", "operation", "generation")
_CALLER: Final = ("tenant", "consumer", "credential", "auth", "plan")
_FACTS: Final = ("method", "listener", "host", "scheme", "code", "reason", "verdicts", "target", "tls", "fingerprint")
_MOST_OF: Final = {"status": 65_535, "attempts": 255}
_pack = struct.Struct(f"{len(_NUMBERS)}q").pack
_PLACES: Final = (
    dict.fromkeys(("number", *_NUMBERS, *_TEXTS), "l")
    | dict.fromkeys(_OPERATION, "o")
    | dict.fromkeys(_CALLER, "c")
    | dict.fromkeys(_FACTS, "f")
)
_INSERT: Final = f"""
    INSERT INTO calls BY NAME
    SELECT $chain AS chain, {", ".join(f'{_PLACES[name]}."{name}"' for name in CALLS_COLUMNS if name != "chain")}
    FROM new_lines l
    JOIN new_operations o ON o.id = l.operation_id
    JOIN new_callers c ON c.id = l.caller_id
    JOIN new_facts f ON f.id = l.facts_id
"""  # noqa: S608


class UnreadableRecord(GatewaydError):
    """A record says something that no row can hold."""


def batch(bodies: Sequence[bytes], numbers: NDArray[np.int64], names: Names, opened: Open) -> Batch:
    """The rows of records of one chain; `numbers` are theirs in it. Raises what `opened` does, such as `OSError`."""
    try:
        return _batch(bodies, numbers, names, opened)
    except (msgspec.DecodeError, UnreadableRecord):
        keep = [index for index, body in enumerate(bodies) if _is_readable(body)]
        _log.error("%d records cannot be read and are not collected", len(bodies) - len(keep))
        rest = _batch([bodies[index] for index in keep], numbers[keep], names, opened)
        return rest._replace(unreadable=len(bodies) - len(keep))


def insert(cursor: duckdb.DuckDBPyConnection, chain: str, rows: Batch) -> None:
    """Add the rows to `calls`."""
    tables = {
        "new_lines": rows.lines,
        "new_operations": rows.operations,
        "new_callers": rows.callers,
        "new_facts": rows.facts,
    }
    with registered(cursor, tables):
        cursor.execute(_INSERT, {"chain": chain})


@contextmanager
def registered(cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, Columns]) -> Iterator[None]:
    """Have columns stand as tables for the queries of a connection."""
    for name, columns in tables.items():
        cursor.register(name, columns)
    try:
        yield
    finally:
        for name in tables:
            cursor.unregister(name)


def _is_readable(body: bytes) -> bool:
    try:
        _batch([body], np.zeros(1, np.int64), Names(), lambda _: None)
    except (msgspec.DecodeError, UnreadableRecord):
        return False
    return True


def _batch(bodies: Sequence[bytes], numbers: NDArray[np.int64], names: Names, opened: Open) -> Batch:
    operations, callers, facts = _Shared(_of_operation), _Shared(_of_caller), _Shared(_of_facts)
    packed, texts = [], []
    subjects: dict[bytes, str] = {}
    for body in bodies:  # all of a record while it is in the processor's cache
        line = _line(body)
        trace = line.trace or _UNTRACED
        sealed = line.sealed
        if sealed is None:
            subject, personal = b"", _personal(line.personal)
        else:
            subject, personal = sealed.subject, opened(sealed)
        packed.append(_packed(line, trace))
        texts.append(
            (
                line.request_id.decode("latin-1"),
                trace.trace_id,
                trace.span_id,
                trace.parent_id,
                subjects.get(subject) or subjects.setdefault(subject, subject.hex()),
                *(_ERASED if personal is None else _of_person(personal)),
            )
        )
        operations.add(bytes(line.operation))
        callers.add(bytes(line.caller))
        facts.add(
            (
                line.method,
                line.listener,
                line.host,
                line.scheme,
                line.code,
                line.reason,
                bytes(line.verdicts),
                line.target,
                bytes(line.tls),
            )
        )
    shared = {"operation_id": operations.ids(), "caller_id": callers.ids(), "facts_id": facts.ids()}
    places = [names.places.number(row[:2]) for row in operations.rows]
    people = [names.people.number(row[:2]) for row in callers.rows]
    refused = [row[4] != "" for row in facts.rows]
    return Batch(
        {"number": numbers} | _numbers(packed) | _texts(texts) | shared,
        operations.columns(_OPERATION),
        callers.columns(_CALLER),
        facts.columns(_FACTS),
        np.array(places, np.int64)[shared["operation_id"]],
        np.array(people, np.int64)[shared["caller_id"]],
        np.array(refused, np.int64)[shared["facts_id"]],
        0,
    )


class _Shared:
    """A table of what lines have in common, its rows numbered in the order in which they are met."""

    def __init__(self, make: Callable[[Any], tuple[Any, ...]]) -> None:
        self._make = make
        self._known: dict[Any, int] = {}
        self._ids: list[int] = []
        self.rows: list[tuple[Any, ...]] = []

    def add(self, what: Any) -> None:
        """The next line's."""
        number = self._known.setdefault(what, len(self._known))
        self._ids.append(number)
        if number == len(self.rows):
            self.rows.append(self._make(what))

    def ids(self) -> NDArray[np.int64]:
        """The number of each line's row."""
        return np.array(self._ids, np.int64)

    def columns(self, names: Sequence[str]) -> Columns:
        """The table, with a column `id`."""
        found: Columns = {"id": np.arange(len(self.rows))}
        return found | {name: _objects([row[index] for row in self.rows]) for index, name in enumerate(names)}


def _of_operation(raw: bytes) -> tuple[Any, ...]:
    said = _operation(raw)
    if not 0 <= said.generation < 1 << 32:
        raise UnreadableRecord("its generation is no number of ours")
    return said.route, said.service, said.template, said.generation


def _of_caller(raw: bytes) -> tuple[str, ...]:
    said = _caller(raw) or _NOBODY
    return said.tenant, said.consumer, said.credential, said.method, said.plan


def _of_facts(of: tuple[Any, ...]) -> tuple[str, ...]:
    method, listener, host, scheme, code, reason, verdicts, target, tls = of
    said = " ".join(f"{instance}:{verdict}" for instance, verdict in _verdicts(verdicts) or ())
    secure = _tls(tls) or Tls()
    return (
        method.decode("latin-1"),
        listener,
        host.decode("latin-1"),
        scheme.decode("latin-1"),
        code,
        reason,
        said,
        target,
        secure.version,
        secure.fingerprint,
    )


def _packed(line: Line, trace: Trace) -> bytes:
    try:
        return _pack(
            line.at,
            line.status,
            line.attempts,
            line.total,
            line.upstream,
            line.bytes_in,
            line.bytes_out,
            trace.sampled,
        )
    except struct.error as error:
        raise UnreadableRecord(str(error)) from None


def _numbers(packed: list[bytes]) -> Columns:
    found = np.frombuffer(b"".join(packed), np.int64).reshape(-1, len(_NUMBERS))
    columns = {name: found[:, index].clip(0, _MOST_OF.get(name)) for index, name in enumerate(_NUMBERS)}
    columns["at"] = (columns["at"] // 1000).view("M8[us]")
    return columns


def _texts(rows: list[tuple[Any, ...]]) -> Columns:
    columns = zip(*rows, strict=True) if rows else [()] * len(_TEXTS)
    return {name: _objects(column) for name, column in zip(_TEXTS, columns, strict=True)}


def _of_person(said: Personal) -> tuple[str, str, str, str, bytes | None]:
    values = said.values
    hashes = values[0].hex() if len(values) == 1 else " ".join([value.hex() for value in values])
    captured = None if said.captured is None else _encode(said.captured)
    return said.client, said.peer, said.agent, hashes, captured


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found
