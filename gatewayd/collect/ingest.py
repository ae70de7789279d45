"""From the chains of call records into the store, each record exactly once.

A transaction adds rows, sums, and the positions behind the records they came from: what a crash leaves undone is read
again. Where reading goes on is decided by positions in the store alone, never by what is remembered of an attempt that
failed.

While DuckDB commits, which needs no Python, the next records are read and decoded. The rest of its work is not done
beside that: it asks for the interpreter's lock for each column of texts, and would wait for it each time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from gatewayd.audit.keys import Signer
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.collect import retention, rollups
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
AHEAD: Final = 6
"""Pieces that are read ahead of the transaction they belong to."""
REMEMBERED: Final = 50_000
"""What decoding may remember before it begins anew: half a kilobyte each."""
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
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._ahead: deque[Piece] = deque()
        self._committer = ThreadPoolExecutor(1, "collector commit", self._commit_begins)
        self._commit_clock: int | None = None
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

    def commit_cpu(self) -> float:
        """CPU seconds of the thread that commits, which is not the caller's."""
        return 0.0 if self._commit_clock is None else time.clock_gettime(self._commit_clock)

    def close(self) -> None:
        """Let go of everything."""
        self._reset()
        self._committer.shutdown()
        self._commit_clock = None

    def _commit_begins(self) -> None:
        self._commit_clock = time.pthread_getcpuclockid(threading.get_ident())

    def _step(self, config: Config) -> bool:
        if self._cursor is None or len(self._chains.decoding) > REMEMBERED:
            self._begin()
        cursor = self._cursor
        assert cursor is not None
        if self._erasing.due():
            self._begin()  # what was read ahead may hold what is to be erased
            self._erasing.erase(cursor)
        first = self._next()
        if first is not None:
            self._add(cursor, first)
        closed = self._ahead[0].closed if self._ahead else self._chains.closed()
        worked = rollups.cascade(cursor, closed)
        return self._expire(cursor, config) or worked or first is not None

    def _next(self) -> Piece | None:
        return self._ahead.popleft() if self._ahead else self._chains.read()

    def _add(self, cursor: duckdb.DuckDBPyConnection, first: Piece) -> None:
        """One transaction, of this piece and what comes behind it."""
        positions: dict[str, Position] = {}
        added: list[Numbers] = []
        count = unreadable = 0
        decoding = self._chains.decoding
        piece: Piece | None = first
        cursor.begin()
        while piece is not None:
            decoding.insert(cursor, piece.chain, piece.batch)
            added.append(rollups.numbers(piece.batch))
            positions[piece.chain] = piece.behind
            count += piece.batch.count
            unreadable += piece.batch.unreadable
            piece = self._next() if count < TRANSACTION else None
        rollups.write(cursor, _joined(added), decoding)
        for chain, position in positions.items():
            cursor.execute(_SAVE, [chain, *position])
        self._commit(cursor)
        self.figures.records += count
        self.figures.unreadable += unreadable

    def _commit(self, cursor: duckdb.DuckDBPyConnection) -> None:
        committing = self._committer.submit(cursor.commit)
        while len(self._ahead) < AHEAD and not committing.done():
            piece = self._chains.read()
            if piece is None:
                break
            self._ahead.append(piece)
        committing.result()

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
        self._ahead.clear()
        if self._cursor is None:
            self._cursor = self._store.cursor()
            self._cursor.execute("SET pandas_analyze_sample = 0")  # columns of objects are texts, without looking
        found = self._cursor.execute("FROM positions").fetchall()
        self._chains.start({chain: Position(*rest) for chain, *rest in found})

    def _reset(self) -> None:
        self._ahead.clear()
        self._chains.close()
        if self._cursor is not None:
            self._cursor.close()  # a transaction under way is undone
            self._cursor = None


def _joined(added: Sequence[Numbers]) -> Numbers:
    return Numbers(*(np.concatenate(columns) for columns in zip(*added, strict=True)))
