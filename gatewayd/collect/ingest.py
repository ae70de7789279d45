"""From the chains of call records into the store, each record exactly once.

A transaction adds rows, sums, and the positions behind the records they came from: what a crash leaves undone is read
again. Where reading goes on is decided by positions in the store alone, never by what is remembered of an attempt that
failed.

While DuckDB works on one piece, a second thread reads, checks and decodes the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from gatewayd.audit.keys import Signer
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.collect import retention, rollups, rows
from gatewayd.collect.chains import Chains, Figures, Piece
from gatewayd.collect.erasing import Erasing
from gatewayd.collect.following import Position
from gatewayd.collect.rollups import Numbers
from gatewayd.collect.store import Store
from gatewayd.config.collector import Collector as Config
from gatewayd.core.clock import Clock

TRANSACTION: Final = 30_000
"""Rows after which a transaction ends. DuckDB keeps them in memory until then."""
EXPIRE_EVERY: Final = 60.0
"""Seconds between two looks for what is too old."""
NAMES: Final = 200_000
"""Names for rollups that are kept in memory before they are forgotten."""
_SAVE: Final = "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)"


class Ingest:
    """Adds what chains have. For one thread."""

    def __init__(self, store: Store, state: Path, signer: Signer | None, clock: Clock, figures: Figures) -> None:
        self.figures = figures
        self._store = store
        self._clock = clock
        self._keys = SubjectKeys(state)
        self._chains = Chains(state, signer, self._keys, clock, self.figures)
        self._erasing = Erasing(state)
        self._reader = ThreadPoolExecutor(1, "collector reader", self._reader_begins)
        self._reader_clock = -1
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._coming: Future[Piece | float] | None = None
        self._expired = -EXPIRE_EVERY

    def step(self, config: Config) -> bool:
        """Do what is to be done next; False: there is nothing more at present.

        Raises `StoreError`, `duckdb.Error`, `OSError`: nothing is lost by that.
        """
        try:
            return self._step(config)
        except BaseException:
            self._reset()
            raise

    def interrupt(self) -> None:
        """Have what DuckDB is doing for `step` fail. From any thread."""
        cursor = self._cursor
        if cursor is not None:
            cursor.interrupt()

    def reader_cpu(self) -> float:
        """CPU seconds of the thread that reads."""
        return 0.0 if self._reader_clock == -1 else time.clock_gettime(self._reader_clock)

    def close(self) -> None:
        """Let go of everything."""
        self._reset()
        self._reader.shutdown()
        self._reader_clock = -1

    def _reader_begins(self) -> None:
        self._reader_clock = time.pthread_getcpuclockid(threading.get_ident())

    def _step(self, config: Config) -> bool:
        if self._cursor is None or len(self._chains.names) > NAMES:
            self._begin()
        cursor = self._cursor
        assert cursor is not None
        if self._erasing.due():
            self._begin()  # what was read ahead may hold what is to be erased
            self._erasing.erase(cursor)
        first = self._next()
        closed = self._add(cursor, first) if isinstance(first, Piece) else first
        worked = rollups.cascade(cursor, closed)
        return self._expire(cursor, config) or worked or isinstance(first, Piece)

    def _add(self, cursor: duckdb.DuckDBPyConnection, piece: Piece) -> float:
        """One transaction, of this piece and what comes behind it. Returns until when everything is there."""
        positions: dict[str, Position] = {}
        added: list[Numbers] = []
        count = 0
        cursor.begin()
        while True:
            rows.insert(cursor, piece.chain, piece.batch)
            added.append(rollups.numbers(piece.batch))
            positions[piece.chain] = piece.behind
            count += len(piece.batch.place)
            self.figures.unreadable += piece.batch.unreadable
            closed = piece.closed
            if count >= TRANSACTION:
                break
            more = self._next()
            if not isinstance(more, Piece):
                closed = more
                break
            piece = more
        if count:
            rollups.write(cursor, _joined(added), self._chains.names)
        for chain, position in positions.items():
            cursor.execute(_SAVE, [chain, *position])
        cursor.commit()
        self.figures.records += count
        return closed

    def _expire(self, cursor: duckdb.DuckDBPyConnection, config: Config) -> bool:
        now = self._clock.monotonic()
        if now - self._expired < EXPIRE_EVERY:
            return False
        if retention.expire(cursor, config, self._clock.wall()):
            return True
        self._expired = now
        return False

    def _next(self) -> Piece | float:
        """What comes next; and what comes behind that is begun to be read."""
        coming = self._coming or self._reader.submit(next, self._pieces)
        self._coming = None
        found = coming.result()
        if isinstance(found, Piece):
            self._coming = self._reader.submit(next, self._pieces)
        return found

    def _begin(self) -> None:
        """Go on from the positions of the store."""
        self._stop_reading()
        if self._cursor is None:
            self._cursor = self._store.cursor()
        found = self._cursor.execute("FROM positions").fetchall()
        self._chains.start({chain: Position(*rest) for chain, *rest in found})
        self._pieces = self._chains.pieces()

    def _stop_reading(self) -> None:
        if self._coming is not None:
            self._coming.exception()  # once it has ended
            self._coming = None

    def _reset(self) -> None:
        self._stop_reading()
        self._chains.close()
        if self._cursor is not None:
            self._cursor.close()  # a transaction under way is undone
            self._cursor = None


def _joined(added: Sequence[Numbers]) -> Numbers:
    return Numbers(*(np.concatenate(columns) for columns in zip(*added, strict=True)))
