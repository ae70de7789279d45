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

_PUT = "INSERT INTO exports VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET position = excluded.position"
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
        self._put(planned | {f"{self.reader}#planned": len(batch)})

    def commit(self, batch: Batch, remember: Mapping[str, int] | None = None) -> None:
        """`batch` is sent: go on behind it. What is to be remembered is, at the same instant."""
        own = {f"{self.reader}#{name}": number for name, number in (remember or {}).items()}
        if self._remembered.get(f"{self.reader}#planned"):
            own[f"{self.reader}#planned"] = 0
        self._put({f"{self.reader}/{chain}": number for chain, number in batch.sent.items()} | own)
        if self._sent is not None:
            self._sent |= batch.sent
        self._anchor = _Anchor(*batch.rows[-1][-_OWN:-1])

    def remember(self, numbers: Mapping[str, int]) -> None:
        """Keep numbers, durably."""
        self._put({f"{self.reader}#{name}": number for name, number in numbers.items()})

    def remembered(self, name: str) -> int | None:
        """A number that was kept, by this process or one before."""
        if self._sent is None:
            with self._store.cursor() as cursor:
                self._known(cursor)
        return self._remembered.get(f"{self.reader}#{name}")

    def _put(self, positions: Mapping[str, int]) -> None:
        with self._store.cursor() as cursor:
            cursor.begin()
            try:
                cursor.executemany(_PUT, list(positions.items()))
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
        found = dict(cursor.fetchall())
        if self.reader not in found:
            edge = "min(number) - 1" if self._start == "oldest" else "max(number)"
            cursor.execute(f"SELECT chain, {edge} FROM calls GROUP BY chain")  # noqa: S608
            found = {f"{self.reader}/{chain}": int(number) for chain, number in cursor.fetchall()}
            found[self.reader] = 1
            self._put(found)
        self._remembered = found
        prefix = f"{self.reader}/"
        chains = {name.removeprefix(prefix): number for name, number in found.items() if name.startswith(prefix)}
        self._sent = {chain: number for chain, number in chains.items() if "#" not in chain}
        return self._sent

    def _read(
        self, cursor: DuckDBPyConnection, columns: Sequence[str], most: int, sent: Mapping[str, int]
    ) -> Batch | None:
        planned = self._remembered.get(f"{self.reader}#planned", 0)
        select = ", ".join([*columns, "rowid", "chain", "number", 'epoch("at")'])
        while True:
            anchor = self._anchor = self._standing(cursor, sent)
            found = cursor.execute(
                f"SELECT {select} FROM calls WHERE rowid > ? ORDER BY rowid LIMIT ?",  # noqa: S608
                [anchor.row, planned or most],
            ).fetchall()
            rows = self._following(found, sent, planned)
            if rows:
                return self._batch(cursor, rows, sent, planned)
            if planned:  # all of it was removed since
                self._put({f"{self.reader}#planned": 0})
                planned = 0
            elif found:
                self._anchor = _Anchor(*found[-1][-_OWN:-1])
            else:
                return None

    def _following(self, found: list[Row], sent: Mapping[str, int], planned: int) -> list[Row]:
        """Those that are not sent yet, as far as a plan reaches."""
        if not planned:
            return [row for row in found if row[-2] > sent.get(row[-3], 0)]
        ends = self._planned({row[-3] for row in found})
        return [row for row in found if sent.get(row[-3], 0) < row[-2] <= ends[row[-3]]]

    def _planned(self, chains: set[str]) -> dict[str, int]:
        return {chain: self._remembered.get(f"{self.reader}/{chain}#planned", 0) for chain in chains}

    def _batch(self, cursor: DuckDBPyConnection, rows: list[Row], sent: Mapping[str, int], planned: int) -> Batch:
        reached = dict(sent)
        first: dict[str, int] = {}
        for row in rows:
            first.setdefault(row[-3], row[-2])
            reached[row[-3]] = row[-2]
        if planned:
            ends = self._planned(sent.keys() | first.keys())
            reached |= {chain: max(end, sent.get(chain, 0)) for chain, end in ends.items()}
        moved = sorted((chain, sent.get(chain, 0), to) for chain, to in reached.items() if to != sent.get(chain, 0))
        (last,) = cursor.execute("SELECT max(rowid) FROM calls").fetchone() or (0,)
        return Batch(
            rows,
            {chain: to for chain, _, to in moved},
            hashlib.sha256(repr(moved).encode()).hexdigest()[:32],
            last - rows[-1][-_OWN],
            sum(self._skipped(cursor, chain, sent.get(chain, 0), number) for chain, number in first.items()),
        )

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


def _searched(cursor: DuckDBPyConnection, sent: Mapping[str, int]) -> _Anchor:
    """The row before the first that is not sent; the last one if all are."""
    standing = ", ".join(["(?, ?::UBIGINT)"] * len(sent)) or "('', 0::UBIGINT)"
    cursor.execute(
        "SELECT min(calls.rowid) FROM calls "  # noqa: S608
        f"LEFT JOIN (VALUES {standing}) AS sent (chain, number) ON calls.chain = sent.chain "
        "WHERE calls.number > coalesce(sent.number, 0)",
        [value for pair in sent.items() for value in pair],
    )
    (first,) = cursor.fetchone() or (None,)
    below, bound = ("", []) if first is None else ("WHERE rowid < ?", [first])
    cursor.execute(f"SELECT rowid, chain, number FROM calls {below} ORDER BY rowid DESC LIMIT 1", bound)  # noqa: S608
    row = cursor.fetchone()
    return _Anchor(*row) if row else _Anchor()
