"""The ledger: columns that outlive whoever wrote them, books that are found again, and what becomes of broken ones."""

from __future__ import annotations

import gc
import logging
import os
import signal
import stat
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatewayd.config.model import decode
from gatewayd.core.policy import BuildContext
from gatewayd.core.state import StateError
from gatewayd.limits import ledger as module
from gatewayd.limits.book import Book
from gatewayd.limits.calendar import Period
from gatewayd.limits.ledger import Ledger
from gatewayd.limits.table import OWN
from tests.support.daemon import wait_for
from tests.support.forked import forked

MUCH = 1 << 40


def day(number: int) -> Period:
    return Period(number * 86_400, (number + 1) * 86_400)


DAY = day(0)


def count(ledger: Ledger, period: Period = DAY, instance: str = "daily", amount: int = 1) -> int:
    """Take `amount`; what is used then."""
    book = ledger.book(instance, period)
    return book.take(book.row(b"a", OWN), amount, MUCH)


def names(folder: Path) -> list[str]:
    """The files but those of the writers."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(("writer-", "lock")))


def test_everybody_writes_a_column_of_their_own(tmp_path):
    ledgers = [Ledger(tmp_path) for _ in range(10)]
    assert [each.column for each in ledgers] == list(range(10))
    assert [count(each) for each in ledgers] == list(range(1, 11))


def test_a_column_goes_to_the_next_who_comes(tmp_path):
    ledgers = [Ledger(tmp_path) for _ in range(3)]
    for each in ledgers:
        count(each)
    del each
    ledgers.pop(1)
    gc.collect()
    newcomer = Ledger(tmp_path)
    assert newcomer.column == 1
    assert count(newcomer) == 4


def test_a_process_that_is_killed_loses_nothing(tmp_path):
    for total in (5, 10, 15):
        ready, told = os.pipe()

        def work(told: int = told) -> None:
            ledger = Ledger(tmp_path)
            for _ in range(5):
                count(ledger)
            os.write(told, bytes([ledger.column]))
            signal.pause()

        child = forked(work)
        column = os.read(ready, 1)[0]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(told)
        survivor = Ledger(tmp_path)
        assert survivor.column == column == 0
        assert count(survivor, amount=0) == total
        del survivor


def test_when_all_columns_are_taken_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COLUMNS", 2)
    held = [Ledger(tmp_path), Ledger(tmp_path)]
    with pytest.raises(StateError, match="2 processes write to"):
        Ledger(tmp_path)
    assert len(held) == 2


def test_it_is_for_this_user_alone(tmp_path):
    ledger = Ledger(tmp_path / "state")
    count(ledger)
    assert stat.S_IMODE(ledger.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in ledger.folder.iterdir()} == {0o600}


def test_a_directory_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file"):
        Ledger(tmp_path / "file")
    (tmp_path / "quotas" / "lock").mkdir(parents=True)
    with pytest.raises(StateError, match=f"nothing can be written to {tmp_path}/quotas"):
        Ledger(tmp_path)


def test_a_process_has_one_for_each_directory(tmp_path):
    def context(name: str, kept: dict[tuple[str, str], object]) -> BuildContext:
        return BuildContext(document=decode({"gateway": {"state_dir": str(tmp_path / name)}}), kept=kept)

    kept: dict[tuple[str, str], object] = {}
    one = Ledger.of(context("one", kept))
    assert Ledger.of(context("one", kept)) is one
    assert Ledger.of(context("two", kept)) is not one


def test_quotas_and_periods_count_apart(tmp_path):
    ledger = Ledger(tmp_path)
    for total in (1, 2):
        assert count(ledger, day(0)) == count(ledger, day(1)) == count(ledger, day(1), "daily.x") == total


def test_a_book_in_use_is_one_object(tmp_path):
    ledger = Ledger(tmp_path)
    book = ledger.book("daily", day(0))
    assert ledger.book("daily", day(0)) is book


# -- periods that are over, and clocks that jump ----------------------------------------------------------------------


def test_of_former_periods_the_latest_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    ledger = Ledger(tmp_path)
    other = Ledger(tmp_path)
    count(ledger, day(2), "daily.x")
    for number in range(10):
        count(ledger, day(number))
    assert names(ledger.folder) == [
        "daily.19700108T000000Z-19700109T000000Z",
        "daily.19700109T000000Z-19700110T000000Z",
        "daily.19700110T000000Z-19700111T000000Z",
        "daily.x.19700103T000000Z-19700104T000000Z",
    ]
    assert count(other, day(9)) == 2


def test_a_clock_that_jumps_ahead_and_back_loses_nothing(tmp_path):
    ledger = Ledger(tmp_path)
    assert [count(ledger, day(number)) for number in (100, 101, 101, 9_999, 101, 100, 102, 9_999)] == [
        1,
        1,
        2,
        1,
        3,
        2,
        1,
        2,
    ]


def test_what_lies_in_the_future_goes_when_its_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    ledger = Ledger(tmp_path)
    for number in (5, 8, 6, 7, 8, 9, 10, 11):
        count(ledger, day(number))
    assert len(names(ledger.folder)) == 3


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_damaged_book_is_set_aside_and_that_is_said(tmp_path, caplog):
    ledger = Ledger(tmp_path)
    count(ledger, amount=5)
    (name,) = names(ledger.folder)
    (ledger.folder / name).write_bytes(b"rubbish")
    for total in (1, 2):
        with caplog.at_level(logging.ERROR):
            assert count(Ledger(tmp_path)) == total
    assert names(ledger.folder) == [name, f"{name}.damaged"]
    assert (ledger.folder / f"{name}.damaged").read_bytes() == b"rubbish"
    (said,) = [each.getMessage() for each in caplog.records]
    assert said == (
        f"the counts in {ledger.folder}/{name} are lost: it is no book of a quota. "
        f"It is now {name}.damaged, and they begin anew"
    )


def test_a_folder_that_somebody_cleared_away_is_made_anew(tmp_path):
    ledger = Ledger(tmp_path)
    count(ledger, day(0))
    for path in ledger.folder.iterdir():
        path.unlink()
    ledger.folder.rmdir()
    assert count(ledger, day(1)) == 1


def test_what_is_written_reaches_the_disk_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SYNC", 0.001)
    ledger = Ledger(tmp_path)
    book = ledger.book("daily", day(0))
    for _ in range(3):
        book.take(book.row(b"a", OWN), 1, MUCH)
        wait_for(lambda: not book.dirty, "the thread to look")


def test_syncing_touches_what_was_written_and_the_folder_of_new_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_keep_synced", lambda ledger: None)
    synced: list[str] = []
    monkeypatch.setattr(Book, "sync", lambda book: synced.append(book.path.name) or setattr(book, "dirty", False))
    monkeypatch.setattr(module, "_sync_folder", lambda folder: synced.append(folder.name))
    ledger = Ledger(tmp_path)
    one, other = ledger.book("one", day(0)), ledger.book("other", day(0))
    ledger.sync()
    assert synced == ["quotas"]
    other.take(other.row(b"a", OWN), 1, MUCH)
    ledger.sync()
    ledger.sync()
    assert synced == ["quotas", other.path.name]
    assert one.path != other.path


def test_a_disk_that_fails_is_said_once_until_it_is_well(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "SYNC", 0.001)
    ledger = Ledger(tmp_path)
    calls = 0

    def fails() -> None:
        nonlocal calls
        calls += 1
        raise OSError(5, "Input/output error")

    with caplog.at_level(logging.ERROR):
        monkeypatch.setattr(ledger, "sync", fails)
        wait_for(lambda: calls > 5, "several attempts")
    assert [each.getMessage() for each in caplog.records] == [
        f"quotas in {ledger.folder} are not safe from a power failure: Input/output error"
    ]


def test_the_thread_ends_with_its_ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SYNC", 0.001)
    ended = []
    keep = module._keep_synced
    monkeypatch.setattr(module, "_keep_synced", lambda ledger: ended.append(keep(ledger)))
    Ledger(tmp_path)
    wait_for(lambda: ended, "the thread to end")


# -- against a model --------------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Workers come, count, and are killed, in whatever order; a dictionary knows what must be there."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.ledgers: dict[int, Ledger] = {}
        self.counted: dict[tuple[bytes, int], int] = {}
        self.state = self.folder / str(len(list(self.folder.iterdir())))

    @rule(worker=st.integers(0, 11))
    def dies(self, worker: int) -> None:
        self.ledgers.pop(worker, None)

    @rule(
        worker=st.integers(0, 11), key=st.sampled_from([b"a", b"b"]), number=st.integers(0, 1), limit=st.integers(1, 9)
    )
    def takes(self, worker: int, key: bytes, number: int, limit: int) -> None:
        book = self.book(worker, number)
        before = self.counted.get((key, number), 0)
        expected = before + 1 if before < limit else -1
        assert book.take(book.row(key, OWN), 1, limit) == expected
        self.counted[key, number] = max(before, expected)

    @rule(worker=st.integers(0, 11), key=st.sampled_from([b"a", b"b"]), number=st.integers(0, 1))
    def gives_back(self, worker: int, key: bytes, number: int) -> None:
        book = self.book(worker, number)
        at = book.row(key, OWN)
        if book._own[at + book._column]:  # what this worker has taken, or one before it in its column
            book.give_back(at, 1)
            self.counted[key, number] -= 1

    @invariant()
    def everybody_sees_it(self) -> None:
        for worker in self.ledgers:
            for (key, number), used in self.counted.items():
                assert self.book(worker, number).used_by(key, OWN) == used

    def book(self, worker: int, number: int) -> Book:
        if worker not in self.ledgers:
            self.ledgers[worker] = Ledger(self.state)
        return self.ledgers[worker].book("daily", day(number))

    def teardown(self) -> None:
        self.ledgers.clear()


def test_it_counts_as_a_dictionary_would(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_keep_synced", lambda ledger: None)
    made = type("InFolder", (Machine,), {"folder": tmp_path})
    case = made.TestCase
    case.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
    case().runTest()
