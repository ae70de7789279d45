"""Following the table `calls` in the order of its ingestion, once, whatever ends in between.

Where a reader stands is kept by chain and number, for these are a record's name: DuckDB counts row identifiers anew
when it takes removed rows out of its file, so they order rows but name none for long. Within a process the identifier
of the last row that was sent says where to read on, as long as that row is found there; else the table is searched.

Positions are rows of `exports`: `<reader>` that it has begun, `<reader>/<chain>` the number of the last record that was
sent, `<reader>#<what>` numbers that a reader remembers besides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from duckdb import DuckDBPyConnection

from gatewayd.collect.store import Store

_OURS = "SELECT name, position FROM exports WHERE name = ? OR starts_with(name, ?) OR starts_with(name, ?)"
_OWN = 4
"""Values at the end of each row that are ours: its identifier, chain, number, and time in seconds."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that are to be sent."""

    rows: list[Row]
    """In order; each holds the values that were asked for, then its row identifier, chain, number, and time."""
    sent: dict[str, int]
    """Where the reader stands, by chain, once these are sent."""
    token: str
    """Names this batch; the same again if it has to be read again after it was planned."""
    behind: int = 0
    """Rows that stand behind the last one."""
    skipped: int = 0
    """Records in between that were removed before they could be sent."""

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, end: int) -> Batch:
        """`rows[start:end]` as a batch to send. What follows of it is still the whole one's."""
        rows = self.rows[start:end]
        first, last = rows[0][-_OWN:], rows[-1][-_OWN:]
        return replace(self, rows=rows, token=f"{self.token}/{first[1]}:{first[2]}-{last[1]}:{last[2]}")

    def name_of(self, index: int) -> str:
        """Chain and number of a row."""
        return "{} {}".format(*self.rows[index][-3:-1])

    @property
    def oldest(self) -> float:
        """When the first call was, in seconds since the epoch."""
        return float(self.rows[0][-1])


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A row up to which everything is sent. Without a chain: nothing that is there is sent."""

    row: int = -1
    chain: str = ""
    number: int = 0


class Following:
    """One reader's way through `calls`. Every method blocks, and is for one thread at a time.

    Raises `duckdb.Error`, `StoreError`.
    """

    def __init__(self, store: Store, reader: str, start: Literal["oldest", "newest"] = "oldest") -> None:
        self.reader = reader
        self._store = store
        self._start = start
        self._sent: dict[str, int] | None = None
        self._remembered: dict[str, int] = {}
        self._anchor: _Anchor | None = None

    def read(self, columns: Sequence[str], most: int) -> Batch | None:
        """Up to `most` records that follow, with these SQL expressions of each; None if there are none.

        What was planned and not committed is read again as it was, but for what has been removed since.
        """
        with self._store.cursor() as cursor:
            sent = self._known(cursor)
            cursor.begin()
            try:
                return self._read(cursor, columns, most, sent)
            finally:
                cursor.rollback()

    def plan(self, batch: Batch) -> None:
        """Keep what `batch` reaches to, before it is sent: after a crash the same is read again."""
        planned = {f"{self.reader}/{chain}#planned": number for chain, number in batch.sent.items()}
        self._put(self._no_plan() | planned | {f"{self.reader}#planned": 1})

    def commit(self, batch: Batch, remember: Mapping[str, int] | None = None) -> None:
        """`batch` is sent: go on behind it. What is to be remembered is, at the same instant."""
        own = {f"{self.reader}#{name}": number for name, number in (remember or {}).items()} | self._no_plan()
        self._put({f"{self.reader}/{chain}": number for chain, number in batch.sent.items()} | own)
        assert self._sent is not None
        self._sent |= batch.sent
        self._anchor = _Anchor(*batch.rows[-1][-_OWN:-1])

    def remember(self, numbers: Mapping[str, int]) -> None:
        """Keep numbers, durably."""
        self._load()
        self._put({f"{self.reader}#{name}": number for name, number in numbers.items()})

    def remembered(self, name: str) -> int | None:
        """A number that was kept, by this process or one before."""
        self._load()
        return self._remembered.get(f"{self.reader}#{name}")

    def _load(self) -> None:
        if self._sent is None:
            with self._store.cursor() as cursor:
                self._known(cursor)

    def _put(self, positions: Mapping[str, int]) -> None:
        """All of them or none. One statement for each of the two ways: an upsert by row costs ten times as much."""
        known = {name: position for name, position in positions.items() if name in self._remembered}
        new = {name: position for name, position in positions.items() if name not in known}
        with self._store.cursor() as cursor:
            cursor.begin()
            try:
                if known:
                    put = f"FROM ({_values(known)}) AS put (name, position) WHERE exports.name = put.name"
                    cursor.execute(f"UPDATE exports SET position = put.position {put}", _flat(known))  # noqa: S608
                if new:
                    cursor.execute(f"INSERT INTO exports {_values(new)}", _flat(new))
                cursor.commit()
            except BaseException:
                cursor.rollback()
                raise
        self._remembered |= positions

    def _known(self, cursor: DuckDBPyConnection) -> dict[str, int]:
        """Numbers by chain. A reader that never was begins where it is to."""
        if self._sent is not None:
            return self._sent
        cursor.execute(_OURS, [self.reader, f"{self.reader}/", f"{self.reader}#"])
        self._remembered = dict(cursor.fetchall())
        if self.reader not in self._remembered:
            edge = "min(number) - 1" if self._start == "oldest" else "max(number)"
            cursor.execute(f"SELECT chain, {edge} FROM calls GROUP BY chain")  # noqa: S608
            self._put({f"{self.reader}/{chain}": int(number) for chain, number in cursor.fetchall()} | {self.reader: 1})
        prefix = f"{self.reader}/"
        named = self._remembered.items()
        chains = {name.removeprefix(prefix): number for name, number in named if name.startswith(prefix)}
        self._sent = {chain: number for chain, number in chains.items() if "#" not in chain}
        return self._sent

    def _read(
        self, cursor: DuckDBPyConnection, columns: Sequence[str], most: int, sent: Mapping[str, int]
    ) -> Batch | None:
        self._anchor = self._standing(cursor, sent)
        values = ", ".join([*columns, "rowid", "chain", "number", 'epoch("at")'])
        select = f"SELECT {values} FROM calls WHERE rowid > ?"  # noqa: S608
        if self._remembered.get(f"{self.reader}#planned"):
            ends = self._ends()
            rows = _planned(cursor, select, self._anchor.row, ends)
            if rows:
                reached = {chain: end for chain, end in ends.items() if end > sent.get(chain, 0)}
                return self._batch(cursor, rows, sent, reached)
            self._put(self._no_plan())  # all of it was removed since
        rows = _next(cursor, select, self._anchor.row, most, sent)
        return self._batch(cursor, rows, sent, {row[-3]: row[-2] for row in rows}) if rows else None

    def _batch(
        self, cursor: DuckDBPyConnection, rows: list[Row], sent: Mapping[str, int], reached: dict[str, int]
    ) -> Batch:
        first = {row[-3]: row[-2] for row in reversed(rows)}
        moved = sorted((chain, sent.get(chain, 0), to) for chain, to in reached.items())
        (last,) = cursor.execute("SELECT max(rowid) FROM calls").fetchone() or (0,)
        return Batch(
            rows,
            reached,
            hashlib.sha256(repr(moved).encode()).hexdigest()[:32],
            last - rows[-1][-_OWN],
            sum(self._skipped(cursor, chain, start, first.get(chain, to + 1)) for chain, start, to in moved),
        )

    def _ends(self) -> dict[str, int]:
        """How far a plan reaches, by chain."""
        start, end = f"{self.reader}/", "#planned"
        named = self._remembered.items()
        return {
            name[len(start) : -len(end)]: number
            for name, number in named
            if name.startswith(start) and name.endswith(end) and number
        }

    def _no_plan(self) -> dict[str, int]:
        return {name: 0 for name, number in self._remembered.items() if name.endswith("#planned") and number}

    def _skipped(self, cursor: DuckDBPyConnection, chain: str, last: int, first: int) -> int:
        """Records between `last`, which was sent, and `first`, which is next. A gap behind a record that is still
        there is one of the chain: what it lacks was never written (`audit.frames.GAP`).
        """
        if first == last + 1:
            return 0
        cursor.execute("SELECT 1 FROM calls WHERE number = ? AND chain = ?", [last, chain])
        return 0 if cursor.fetchone() else first - last - 1

    def _standing(self, cursor: DuckDBPyConnection, sent: Mapping[str, int]) -> _Anchor:
        """The row up to which all is sent: the one known, if it is still where it was."""
        known = self._anchor
        if known is not None and known.chain:
            cursor.execute("SELECT chain, number FROM calls WHERE rowid = ?", [known.row])
            known = known if cursor.fetchone() == (known.chain, known.number) else None
        return known or _searched(cursor, sent)


def _next(cursor: DuckDBPyConnection, select: str, start: int, most: int, sent: Mapping[str, int]) -> list[Row]:
    """Rows behind the one `start` that are not sent: those of the next `most` identifiers that there are some of.

    A range, not a LIMIT: for that, DuckDB would first work out the columns of many more rows.
    """
    while True:
        found = cursor.execute(f"{select} AND rowid <= ? ORDER BY rowid", [start, start + most]).fetchall()
        rows = [row for row in found if row[-2] > sent.get(row[-3], 0)]
        if rows:
            return rows
        cursor.execute("SELECT min(rowid) - 1 FROM calls WHERE rowid > ?", [found[-1][-_OWN] if found else start])
        (following,) = cursor.fetchone() or (None,)
        if following is None:
            return []
        start = following


def _planned(cursor: DuckDBPyConnection, select: str, start: int, ends: Mapping[str, int]) -> list[Row]:
    """What is there of a plan. Behind `start` nothing is sent."""
    within = " OR ".join(["(chain = ? AND number <= ?::UBIGINT)"] * len(ends))
    return cursor.execute(f"{select} AND ({within}) ORDER BY rowid", [start, *_flat(ends)]).fetchall()


def _searched(cursor: DuckDBPyConnection, sent: Mapping[str, int]) -> _Anchor:
    """The row before the first that is not sent; the last one if all are."""
    standing = sent or {"": 0}
    cursor.execute(
        "SELECT min(calls.rowid) FROM calls "  # noqa: S608
        f"LEFT JOIN ({_values(standing)}) AS sent (chain, number) ON calls.chain = sent.chain "
        "WHERE calls.number > coalesce(sent.number, 0)",
        _flat(standing),
    )
    (first,) = cursor.fetchone() or (None,)
    below, bound = ("", []) if first is None else ("WHERE rowid < ?", [first])
    cursor.execute(f"SELECT rowid, chain, number FROM calls {below} ORDER BY rowid DESC LIMIT 1", bound)  # noqa: S608
    row = cursor.fetchone()
    return _Anchor(*row) if row else _Anchor()


def _values(numbers: Mapping[str, int]) -> str:
    return f"VALUES {', '.join(['(?, ?::UBIGINT)'] * len(numbers))}"


def _flat(numbers: Mapping[str, int]) -> list[str | int]:
    """The values of `_values`."""
    return [value for pair in numbers.items() for value in pair]
