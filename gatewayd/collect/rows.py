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
    """Rows of one chain. Columns have an entry per row."""

    lines: Columns
    """`operation_id`, `caller_id` and `facts_id` among them: rows of the tables of `Decoding`."""
    shared: dict[str, Columns]
    """Those rows, by the name that `INSERT` has for them."""
    unreadable: int = 0
    """Records that are none of ours, or of a later version's; they have no row."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.lines["number"])


_line = msgspec.msgpack.Decoder(Line).decode
_operation = msgspec.msgpack.Decoder(Operation).decode
_caller = msgspec.msgpack.Decoder(Caller | None).decode
_verdicts = msgspec.msgpack.Decoder(list[tuple[str, str]] | None).decode
_tls = msgspec.msgpack.Decoder(Tls | None).decode
_personal = msgspec.msgpack.Decoder(Personal | None).decode
_encode = msgspec.msgpack.Encoder().encode
_NOBODY: Final = Caller("")
_UNTRACED: Final = Trace("", "")

_NUMBERS: Final = (
    "at",
    "status",
    "attempts",
    "total_us",
    "upstream_us",
    "bytes_in",
    "bytes_out",
    "sampled",
    "refused",
    "operation_id",
    "caller_id",
    "facts_id",
)
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
    SELECT $chain AS chain, unhex(l.captured) AS captured,
    {", ".join(f'{_PLACES[name]}."{name}"' for name in CALLS_COLUMNS if name not in ("chain", "captured"))}
    FROM new_lines l
    JOIN new_operations o ON o.id = l.operation_id
    JOIN new_callers c ON c.id = l.caller_id
    JOIN new_facts f ON f.id = l.facts_id
"""  # noqa: S608


class UnreadableRecord(GatewaydError):
    """A record says something that no row can hold."""


class Decoding:
    """Makes rows of records, and remembers what many have in common: under one number for as long as this lives."""

    def __init__(self, opened: Open) -> None:
        self._open = opened
        self.operations = Shared(_of_operation, _OPERATION)
        self.callers = Shared(_of_caller, _CALLER)
        self.facts = Shared(_of_facts, _FACTS)

    def __len__(self) -> int:
        """How much is remembered."""
        return len(self.operations) + len(self.callers) + len(self.facts)

    def batch(self, bodies: Sequence[bytes], numbers: NDArray[np.int64]) -> Batch:
        """The rows of records of one chain; `numbers` are theirs in it. Raises what opening seals does: `OSError`."""
        try:
            return self._batch(bodies, numbers)
        except (msgspec.DecodeError, UnreadableRecord):
            keep = [index for index, body in enumerate(bodies) if self._is_readable(body)]
            unreadable = len(bodies) - len(keep)
            _log.error("%d records cannot be read and are not collected", unreadable)
            return self._batch([bodies[index] for index in keep], numbers[keep], unreadable)

    def insert(self, cursor: duckdb.DuckDBPyConnection, chain: str, batch: Batch) -> None:
        """Add rows to `calls`. Raises `duckdb.Error`."""
        with registered(cursor, {"new_lines": batch.lines} | batch.shared):
            cursor.execute(_INSERT, {"chain": chain})

    def _batch(self, bodies: Sequence[bytes], numbers: NDArray[np.int64], unreadable: int = 0) -> Batch:
        lines = self._columns(bodies, numbers)
        shared = {
            "new_operations": self.operations.columns(lines["operation_id"]),
            "new_callers": self.callers.columns(lines["caller_id"]),
            "new_facts": self.facts.columns(lines["facts_id"]),
        }
        return Batch(lines, shared, unreadable)

    def _is_readable(self, body: bytes) -> bool:
        try:
            self._columns([body], np.zeros(1, np.int64))
        except (msgspec.DecodeError, UnreadableRecord):
            return False
        return True

    def _columns(self, bodies: Sequence[bytes], numbers: NDArray[np.int64]) -> Columns:
        opened, operation, caller, facts = self._open, self.operations.number, self.callers.number, self.facts.number
        packed: list[bytes] = []
        texts: tuple[list[str | None], ...] = tuple([] for _ in _TEXTS)
        add = [column.append for column in texts]  # no tuple per record: the garbage collector would look at each
        subjects: dict[bytes, str] = {}
        for body in bodies:  # all of a record while it is in the processor's cache
            line = _line(body)
            trace = line.trace or _UNTRACED
            sealed = line.sealed
            if sealed is None:
                subject, personal = b"", _personal(line.personal)
            else:
                subject, personal = sealed.subject, opened(sealed)
            add[0](line.request_id.decode("latin-1"))
            add[1](trace.trace_id)
            add[2](trace.span_id)
            add[3](trace.parent_id)
            add[4](subjects.get(subject) or subjects.setdefault(subject, subject.hex()))
            if personal is None:
                for each in add[5:]:
                    each(None)
            else:
                add[5](personal.client)
                add[6](personal.peer)
                add[7](personal.agent)
                add[8](_hashes(personal.values))
                add[9](None if personal.captured is None else _encode(personal.captured).hex())
            ids = operation(bytes(line.operation)), caller(bytes(line.caller)), facts(_shared_facts(line))
            packed.append(_packed(line, trace, ids))
        return {"number": numbers} | _numbers(packed) | dict(zip(_TEXTS, map(_objects, texts), strict=True))


class Shared:
    """A table of what records have in common."""

    def __init__(self, make: Callable[[Any], tuple[Any, ...]], names: Sequence[str]) -> None:
        """`make`: the row of what is seen in a record; `names`: its columns."""
        self._make = make
        self._names = names
        self._known: dict[Any, int] = {}
        self._rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def number(self, what: Any) -> int:
        """Which row it is."""
        found = self._known.get(what)
        if found is None:
            self._rows.append(self._make(what))
            found = self._known[what] = len(self._rows) - 1
        return found

    def columns(self, numbers: NDArray[np.int64]) -> Columns:
        """The rows that occur among `numbers`, with theirs as `id`."""
        used = np.unique(numbers)
        rows = [self._rows[number] for number in used.tolist()]
        return {"id": used} | {name: _objects([row[index] for row in rows]) for index, name in enumerate(self._names)}


@contextmanager
def registered(cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, Columns]) -> Iterator[None]:
    """Have columns stand as tables for the queries of a connection.

    Where those fail it is left as it is: in a transaction that is aborted nothing can be taken back but all of it.
    """
    for name, columns in tables.items():
        cursor.register(name, columns)
    yield
    for name in tables:
        cursor.unregister(name)


def _shared_facts(line: Line) -> tuple[Any, ...]:
    return (
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


def _packed(line: Line, trace: Trace, ids: tuple[int, int, int]) -> bytes:
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
            line.code != "",
            *ids,
        )
    except struct.error as error:
        raise UnreadableRecord(str(error)) from None


def _numbers(packed: list[bytes]) -> Columns:
    found = np.frombuffer(b"".join(packed), np.int64).reshape(-1, len(_NUMBERS))
    columns = {name: found[:, index].clip(0, _MOST_OF.get(name)) for index, name in enumerate(_NUMBERS)}
    columns["at"] = (columns["at"] // 1000).view("M8[us]")
    return columns


def _hashes(values: list[bytes]) -> str:
    return values[0].hex() if len(values) == 1 else " ".join([value.hex() for value in values])


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found
