from __future__ import annotations

import asyncio
import threading

import duckdb
import pytest

from gatewayd.collect import questions
from gatewayd.collect.questions import Questions, Unanswered
from gatewayd.collect.store import StoreError
from tests.support.calls import call, fill, store_in

FOREVER = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1"


@pytest.fixture
def store(tmp_path):
    store = store_in(tmp_path)
    fill(store, [call(1), call(2)])
    yield store
    store.close()


def count(cursor):
    return cursor.execute("SELECT count(*) FROM calls").fetchone()[0]


def ask(store, question, **more):
    async def run():
        return await Questions(lambda: store).ask(question, **more)

    return asyncio.run(run())


def test_an_answer(store):
    assert ask(store, count) == 2


def test_without_a_store_there_is_none():
    with pytest.raises(Unanswered, match="the collector is off"):
        ask(None, count)


def test_all_statements_see_the_same(store):
    def twice(cursor):
        before = count(cursor)
        fill(store, [call(3)])
        return before, count(cursor)

    assert ask(store, twice) == (2, 2)
    assert ask(store, count) == 3


def test_what_takes_too_long_is_stopped(store):
    ended = threading.Event()

    def question(cursor):
        try:
            return cursor.execute(FOREVER).fetchall()
        finally:
            ended.set()

    async def run():
        asking = Questions(lambda: store, at_once=1)
        with pytest.raises(Unanswered, match=r"no answer within 0\.01 seconds"):
            await asking.ask(question, 0.01)
        assert await asking.ask(count) == 2  # there is room again, so the thread has ended

    asyncio.run(run())
    assert ended.is_set()


def test_stopping_is_heard_between_statements(store):
    """A call to stop that nothing hears is repeated."""

    def question(cursor):
        stopped.wait(10)
        return cursor.execute(FOREVER).fetchall()

    stopped = threading.Event()

    async def run():
        asking = Questions(lambda: store, at_once=1)
        with pytest.raises(Unanswered):
            await asking.ask(question, 0.01)
        stopped.set()
        assert await asking.ask(count) == 2

    asyncio.run(run())


def test_who_goes_away_does_not_make_room_before_the_thread_ends(store):
    async def run():
        asking = Questions(lambda: store, at_once=1)
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def question(cursor):
            loop.call_soon_threadsafe(begun.set)
            return cursor.execute(FOREVER).fetchall()

        waiting = loop.create_task(asking.ask(question))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asking.ask(count) == 2

    asyncio.run(run())


def test_no_more_than_a_few_at_once(store, monkeypatch):
    monkeypatch.setattr(questions, "PATIENCE", 0.01)
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def question(cursor):
        begun.release()
        go_on.wait(10)
        return count(cursor)

    async def run():
        asking = Questions(lambda: store)
        first = [asyncio.ensure_future(asking.ask(question)) for _ in range(questions.AT_ONCE)]
        for _ in first:
            await asyncio.to_thread(begun.acquire)
        with pytest.raises(Unanswered, match="too many questions at once"):
            await asking.ask(count)
        go_on.set()
        assert await asyncio.gather(*first) == [2] * questions.AT_ONCE

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (duckdb.OutOfMemoryException("x"), "more memory than the store has left"),
        (duckdb.IOException("no space left"), "cannot be read: no space left"),
        (StoreError("made by a newer gatewayd"), "made by a newer gatewayd"),
    ],
)
def test_a_store_that_cannot_answer(store, error, text):
    def question(_):
        raise error

    with pytest.raises(Unanswered, match=text):
        ask(store, question)


def test_other_errors_come_through(store):
    with pytest.raises(duckdb.ParserException):
        ask(store, lambda cursor: cursor.execute("no SQL"))
    with pytest.raises(ZeroDivisionError):
        ask(store, lambda _: 1 // 0)


def test_closing_stops_what_runs(store):
    async def run():
        asking = Questions(lambda: store)
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def question(cursor):
            loop.call_soon_threadsafe(begun.set)
            return cursor.execute(FOREVER).fetchall()

        asked = asyncio.ensure_future(asking.ask(question))
        await begun.wait()
        await asking.close()
        with pytest.raises(duckdb.InterruptException):
            await asked
        with pytest.raises(Unanswered):
            await asking.ask(count)

    asyncio.run(run())
