"""From the chains of call records into the store, each record exactly once.

A transaction adds rows, sums, and the positions behind the records they came from: what a crash leaves undone is read
again. Where reading goes on is decided by positions in the store alone, never by what is remembered of an attempt that
failed.

Where one piece does not end a transaction another thread reads and decodes ahead, while DuckDB, which needs little of
Python, adds and commits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from gatewayd.audit.keys import Signer
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.collect import retention, rollups
from gatewayd.collect.chains import Chains, Figures, Look, Piece
from gatewayd.collect.erasing import Erasing
from gatewayd.collect.following import Position
from gatewayd.collect.rollups import Numbers
from gatewayd.collect.schema import TIERS
from gatewayd.collect.store import Store
from gatewayd.config.collector import Collector as Config
from gatewayd.core.clock import Clock

TRANSACTION: Final = 30_000
"""Rows after which a transaction ends. DuckDB keeps them in memory until then."""
PIECES: Final = 12
"""Pieces after which it ends, too: of records that hold bodies, a few are much."""
EXPIRE_EVERY: Final = 60.0
"""Seconds between two looks for what is too old."""
AHEAD: Final = 2
"""Pieces that are read ahead, some 8 MiB each."""
PERSONS: Final = 12_000
"""Whose ciphers are kept: 2.5 KiB each."""
REMEMBERED: Final = 50_000
"""What decoding may remember before it begins anew: half a kilobyte each."""
_SAVE: Final = "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)"


class Ingest:
    """Adds what chains have. For one thread."""

    def __init__(self, store: Store, state: Path, signer: Signer | None, clock: Clock, figures: Figures) -> None:
        self.figures = figures
        self._store = store
        self._clock = clock
        self._keys = SubjectKeys(state, PERSONS)
        self._chains = Chains(state, signer, self._keys, clock, self.figures)
        self._erasing = Erasing(state)
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._ahead: deque[Future[Look]] = deque()  # one thread at a time has the chains: while there are any, its own
        self._reader = ThreadPoolExecutor(1, "collector reads", self._reader_begins)
        self._reader_clock: int | None = None
        self._closed = 0.0
        self._added_up = -1.0  # up to which minute
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
        """CPU seconds of the thread that reads ahead, which is not the caller's."""
        return 0.0 if self._reader_clock is None else time.clock_gettime(self._reader_clock)

    def close(self) -> None:
        """Let go of everything."""
        self._reset()
        self._reader.shutdown()
        self._reader_clock = None

    def _reader_begins(self) -> None:
        self._reader_clock = time.pthread_getcpuclockid(threading.get_ident())

    def _step(self, config: Config) -> bool:
        if self._cursor is None or len(self._chains.decoding) > REMEMBERED:
            self._begin()
        cursor = self._cursor
        assert cursor is not None
        if self._erasing.due():
            self._begin()  # what was read ahead may hold what is to be erased
            self._erasing.erase(cursor)
        added = self._add(cursor)
        worked = self._add_up(cursor)
        return self._expire(cursor, config) or worked or added

    def _next(self, more: bool = False) -> Piece | None:
        """The next piece; `more`: have others read while this one is added. It waits for what is being read."""
        look: Look | None = None
        while self._ahead and (look is None or look.piece is None):
            look = self._ahead.popleft().result()
        if look is None:
            look = self._chains.look()
        if look.piece is not None and (more or self._ahead):
            missing = AHEAD - len(self._ahead)
            self._ahead.extend(self._reader.submit(self._chains.look) for _ in range(missing))
        self._closed = look.closed
        return look.piece

    def _add(self, cursor: duckdb.DuckDBPyConnection) -> bool:
        """One transaction, of the next piece and what comes behind it; False: there is none."""
        piece = self._next()
        if piece is None:
            return False
        positions: dict[str, Position] = {}
        added: list[Numbers] = []
        count = unreadable = 0
        decoding = self._chains.decoding
        cursor.begin()
        while piece is not None:
            decoding.insert(cursor, piece.chain, piece.batch)
            added.append(rollups.numbers(piece.batch))
            positions[piece.chain] = piece.behind
            count += piece.batch.rows
            unreadable += piece.batch.unreadable
            piece = self._next(more=True) if count < TRANSACTION and len(added) < PIECES else None
        sums = _joined(added)
        del added  # what is not needed is not to stand beside what DuckDB needs
        rollups.write(cursor, sums, decoding)
        del sums
        for chain, position in positions.items():
            cursor.execute(_SAVE, [chain, *position])
        cursor.commit()
        self.figures.records += count
        self.figures.unreadable += unreadable
        return True

    def _add_up(self, cursor: duckdb.DuckDBPyConnection) -> bool:
        minute = self._closed // TIERS[1].seconds
        if minute <= self._added_up:
            return False
        worked = rollups.cascade(cursor, self._closed)
        self._added_up = minute
        return worked

    def _expire(self, cursor: duckdb.DuckDBPyConnection, config: Config) -> bool:
        now = self._clock.monotonic()
        if now - self._expired < EXPIRE_EVERY:
            return False
        if retention.expire(cursor, config, self._clock.wall()):
            return True
        self._expired = now
        return False

    def _begin(self) -> None:
        """Go on from the positions of the store."""
        self._stop_reading()
        if self._cursor is None:
            self._cursor = self._store.cursor()
            self._cursor.execute("SET pandas_analyze_sample = 0")  # columns of objects are texts, without looking
        found = self._cursor.execute("FROM positions").fetchall()
        self._chains.start({chain: Position(*rest) for chain, *rest in found})

    def _stop_reading(self) -> None:
        """What was read ahead is forgotten; from here on the chains are the caller's."""
        for look in self._ahead:
            look.cancel()
        wait_for(self._ahead)
        self._ahead.clear()

    def _reset(self) -> None:
        self._stop_reading()
        self._chains.close()
        self._added_up = -1.0
        if self._cursor is not None:
            self._cursor.close()  # a transaction under way is undone
            self._cursor = None


def _joined(added: Sequence[Numbers]) -> Numbers:
    return Numbers(*(np.concatenate(columns) for columns in zip(*added, strict=True)))
