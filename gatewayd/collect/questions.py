"""Questions to the store: a few at a time, each in a thread with a cursor of its own, none for longer than it may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import duckdb

from gatewayd.collect.store import StoreError
from gatewayd.core.tasks import spawn
from gatewayd.errors import GatewaydError

T = TypeVar("T")
AT_ONCE = 2
"""The memory of the store is shared by them and by what comes in."""
PATIENCE = 5.0
"""Seconds that a question waits for others to be answered."""
LONGEST = 20.0
"""Seconds that answering one may take."""
_AGAIN = 0.2
"""Seconds between two calls to stop: one that comes between two statements is not heard."""


class Cursors(Protocol):
    """What gives cursors of a database: the store (`collect.store.Store`)."""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A new one, for one thread at a time."""
        ...


class Unanswered(GatewaydError):
    """A question that cannot be answered now; the text says why."""


class Questions:
    """Asks the store that `store` returns, if there is one; at most `at_once` questions at a time."""

    def __init__(self, store: Callable[[], Cursors | None], at_once: int = AT_ONCE) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(at_once)
        self._running: dict[asyncio.Future[Any], _Question[Any]] = {}
        self._closed = False

    async def ask(self, question: Callable[[duckdb.DuckDBPyConnection], T], longest: float = LONGEST) -> T:
        """What `question` finds, asked in a thread; everything it reads is of one moment.

        Raises `Unanswered` if there is no store, too much is asked at once, or it takes more than `longest` seconds.
        """
        store = None if self._closed else self._store()
        if store is None:
            raise Unanswered("no calls are collected: the collector is off, or has not started yet")
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            raise Unanswered("too many questions at once; ask again") from None
        return await self._answer(_Question(store, question), longest)

    async def _answer(self, question: _Question[T], longest: float) -> T:
        """The turn ends with the thread, not with our waiting: who goes away must not make room for more."""
        answering = asyncio.get_running_loop().run_in_executor(None, question.answer)
        self._running[answering] = question
        answering.add_done_callback(self._over)
        try:
            await asyncio.wait([answering], timeout=longest)
        finally:
            if not answering.done():
                spawn(_stop(question, answering), "stop a question to the store")
        if not answering.done():
            raise Unanswered(f"no answer within {longest:g} seconds: ask about a shorter period, or about less of it")
        return answering.result()

    async def close(self) -> None:
        """Have no more answers: returns when nothing of the store is used any more."""
        self._closed = True
        await asyncio.gather(*(_stop(question, answering) for answering, question in self._running.items()))

    def _over(self, answering: asyncio.Future[T]) -> None:
        del self._running[answering]
        self._turns.release()
        if not answering.cancelled():
            answering.exception()  # has been seen, even if nobody waits for it any more


class _Question(Generic[T]):
    """One question, on its way through a thread."""

    def __init__(self, store: Cursors, question: Callable[[duckdb.DuckDBPyConnection], T]) -> None:
        self._store = store
        self._question = question
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._stopped = False

    def answer(self) -> T:
        """What is found; within a transaction, so that all its statements see the same."""
        try:
            with contextlib.closing(self._store.cursor()) as cursor:
                self._cursor = cursor
                if self._stopped:
                    raise Unanswered("nobody waits for the answer any more")
                cursor.begin()
                try:
                    return self._question(cursor)
                finally:
                    with contextlib.suppress(duckdb.Error):  # it is over already where a statement failed
                        cursor.rollback()
        except duckdb.OutOfMemoryException:
            text = "that needs more memory than the store has left: ask again, or about a shorter period, or less of it"
            raise Unanswered(text) from None
        except (StoreError, duckdb.ConnectionException, duckdb.IOException) as error:
            raise Unanswered(f"the store cannot be read: {error}") from error
        finally:
            self._cursor = None

    def stop(self) -> None:
        """Have it end soon, without an answer. For another thread."""
        self._stopped = True
        cursor = self._cursor
        if cursor is not None:
            with contextlib.suppress(duckdb.Error):  # closed just now
                cursor.interrupt()


async def _stop(question: _Question[T], answering: asyncio.Future[T]) -> None:
    while not answering.done():
        question.stop()
        await asyncio.wait([answering], timeout=_AGAIN)
