from __future__ import annotations

import asyncio
import logging

import duckdb
import pytest

from gatewayd.collect.sinks.sink import RefusedError, Runner, SinkError, pause_after, told
from gatewayd.collect.store import StoreBusy
from gatewayd.config.sinks import Sink as Config
from gatewayd.config.units import Duration

from .recorded import names, opened, put
from .running import Waits, killed_before_the_position, ran

SECRET = "pass-word"


class Target:
    """Takes records; `answer(records)` may raise."""

    def __init__(self, answer=None, repeatable=False):
        self.repeatable = repeatable
        self.taken = []
        self.tokens = []
        self.opened = self.closed = 0
        self.answer = answer or (lambda records: None)

    def columns(self):
        return ["client"]

    async def open(self, memory, blocking):
        self.opened += 1

    async def send(self, batch):
        records = [row[-3:-1] for row in batch.rows]
        self.answer(records)
        self.taken += records
        self.tokens.append(batch.token)
        self.clients = [row[0] for row in batch.rows]
        return {}

    async def close(self):
        self.closed += 1


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def failing(times, error):
    """Answers `times` times with an error."""
    left = [error] * times

    def answer(_):
        if left:
            raise left.pop()

    return answer


def refusing(*numbers):
    """Finds fault with these records."""

    def answer(records):
        if any(number in numbers for _, number in records):
            raise RefusedError("22021")

    return answer


def test_batches_until_nothing_is_left(store):
    put(store, 7)
    target = Target()
    waits = Waits()
    runner = ran(target, store, Config(batch=3), waits)
    assert target.taken == names(7)
    assert (runner.sent, runner.behind, runner.lag(2e9), runner.up) == (7, 0, 0.0, True)
    assert waits.pauses == [1.0]  # only once all was sent
    assert (target.opened, target.closed) == (1, 1)


def test_a_target_that_fails_is_tried_again_ever_more_rarely(store, caplog):
    put(store, 2)
    target = Target(failing(5, OSError(111, "Connection refused")))
    waits = Waits(6)
    with caplog.at_level(logging.INFO):
        runner = ran(target, store, Config(retry=Duration(5)), waits)
    assert waits.pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 1.0]
    assert target.taken == names(2)
    assert (runner.failures, target.opened) == (5, 6)
    assert [record.message for record in caplog.records] == [
        "sink s fails and is tried again: Connection refused",
        "sink s works again",
    ]


def test_what_lags_is_told_while_it_fails(store):
    put(store, 3)
    runner = ran(Target(failing(9, SinkError("down"))), store, waits=Waits(2))
    assert (runner.behind, runner.up, runner.failures) == (3, False, 2)
    assert runner.lag(1772366400.0 + 60) == pytest.approx(60, abs=0.1)


def test_pauses_grow_to_a_longest_one_and_no_further():
    assert [pause_after(failures, 5) for failures in (1, 2, 4, 5, 10**6)] == [0.5, 1.0, 4.0, 5.0, 5.0]
    assert pause_after(3, 0.01) == 0.5  # never at once


def test_what_was_erased_meanwhile_does_not_leave(store):
    put(store, 1)

    def erase(_):
        with store.cursor() as cursor:
            cursor.execute("UPDATE calls SET client = NULL")

    target = Target(failing(1, SinkError("down")))
    ran(target, store, waits=Waits(2, erase))
    assert (target.taken, target.clients) == (names(1), [None])


@pytest.mark.parametrize("position", [1, 4, 6])
def test_a_record_that_is_refused_is_left_out(store, position, caplog):
    put(store, 6)
    target = Target(refusing(position))
    runner = ran(target, store)
    assert sorted(target.taken) == [name for name in names(6) if name[1] != position]
    assert (runner.sent, runner.refused, runner.failures) == (5, 1, 0)
    assert f"refuses the record calls-0 {position}, it is left out" in caplog.text


def test_a_target_that_refuses_everything_is_itself_in_doubt(store):
    put(store, 500)
    asked = []

    def answer(records):
        asked.append(records)
        raise RefusedError("42804")

    runner = ran(Target(answer), store)
    assert (runner.sent, runner.refused, runner.failures, runner.behind) == (0, 0, 1, 500)
    assert len(asked) < 70


def test_a_record_that_is_refused_alone_waits_for_another(store):
    put(store, 1)
    target = Target(refusing(1))
    runner = ran(target, store, waits=Waits(3, lambda count: put(store) if count == 2 else None))
    assert target.taken == [("calls-0", 2)]
    assert (runner.failures, runner.refused) == (2, 1)


def test_a_batch_that_may_have_arrived_is_sent_again(store, monkeypatch):
    put(store, 3)
    target = Target()
    killed_before_the_position(monkeypatch, target, store)
    runner = ran(target, store)
    assert target.taken == names(3) * 2  # nothing is missing; doubles are the target's to drop
    assert (runner.sent, runner.skipped) == (3, 0)


def test_a_repeatable_target_sees_the_same_batch_again(store, monkeypatch):
    put(store, 3)
    target = Target(repeatable=True)
    killed_before_the_position(monkeypatch, target, store)
    put(store, 3)
    ran(target, store)
    assert target.taken == names(3) * 2 + names(3, first=4)
    assert target.tokens[0] == target.tokens[1] != target.tokens[2]


def test_parts_of_a_repeatable_batch_have_names_too(store, monkeypatch):
    put(store, 4)
    target = Target(refusing(2), repeatable=True)
    killed_before_the_position(monkeypatch, target, store)
    first = list(target.tokens)
    ran(target, store)
    assert target.tokens == first * 2


def test_skipped_records_are_counted(store):
    put(store, 2)
    target = Target()

    def purge(count):
        if count == 1:
            put(store, 4)
            with store.cursor() as cursor:
                cursor.execute("DELETE FROM calls WHERE number < 5")

    runner = ran(target, store, waits=Waits(2, purge))
    assert (runner.skipped, runner.sent) == (2, 4)
    assert target.taken == names(2) + names(2, first=5)


def test_one_that_hangs_does_not_hold_up_another(store):
    put(store, 2)
    quick, slow = Target(), Target()
    released = asyncio.Event()

    async def play():
        class Hanging(Target):
            async def send(self, batch):
                await released.wait()
                return await slow.send(batch)

        first = asyncio.create_task(Runner("slow", Config(), Hanging(), lambda: store, Waits()).run())
        await Runner("quick", Config(), quick, lambda: store, Waits()).run()
        assert (quick.taken, slow.taken) == (names(2), [])
        released.set()
        await first

    asyncio.run(play())
    assert slow.taken == names(2)


def test_it_waits_for_a_store(store):
    put(store, 1)
    target, found = Target(), [None, store]

    async def play():
        await Runner("s", Config(), target, lambda: found.pop(0), Waits(2)).run()

    asyncio.run(play())
    assert target.taken == names(1)


def test_stop_ends_it_behind_the_batch(store):
    put(store, 4)

    async def play():
        runner = Runner("s", Config(batch=2), Target(lambda _: runner.stop()), lambda: store)
        await runner.run()
        return runner

    assert asyncio.run(play()).sent == 2


def test_it_waits_until_it_is_stopped(store):
    async def play():
        looked = asyncio.Event()
        runner = Runner("s", Config(interval=Duration(3600)), Target(), lambda: looked.set() or store)
        task = asyncio.create_task(runner.run())
        await looked.wait()
        runner.stop()
        await task

    asyncio.run(play())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SinkError("it answers 500"), "it answers 500"),
        (StoreBusy("in use"), "in use"),
        (OSError(28, "No space left on device", f"/{SECRET}"), "No space left on device"),
        (ValueError(SECRET), "ValueError"),
        (duckdb.IOException(SECRET), "IOException"),
    ],
)
def test_messages_hold_no_secrets(error, text):
    assert told(error) == text
