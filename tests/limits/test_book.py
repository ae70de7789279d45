"""Books: exact over processes, kept by files, never given disk space that is not there."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.limits import book as module
from gatewayd.limits.book import ROWS, Book, BookBusy, BookDamaged, BookFull, create, locked
from gatewayd.limits.calendar import Period
from gatewayd.limits.table import IDENTIFIED, OWN, STRANGER
from tests.support.forked import forked

PERIOD = Period(1_000, 2_000)
MUCH = 1 << 40
PLACES = (OWN, IDENTIFIED, STRANGER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty book."""
    create(tmp_path / "book", PERIOD)
    return tmp_path / "book"


def opened(path: Path, column: int = 0) -> Book:
    return Book(path, PERIOD, column)


def use_up(book: Book, place: int) -> None:
    """As if all rows of a place were given out."""
    for number in (module._GIVEN, module._BACKED):
        book._live[number + place] = ROWS[place]


def test_what_is_taken_is_used_up_to_the_limit(path):
    book = opened(path)
    at = book.row(b"a", OWN)
    assert [book.take(at, 2, 5) for _ in range(3)] == [2, 4, -1]
    assert book.take(at, 1, 5) == 5
    assert book.used(at) == 5
    book.give_back(at, 2)
    assert book.used(at) == book.used_by(b"a", OWN) == 3
    assert book.used(book.row(b"b", OWN)) == 0


def test_a_file_keeps_it(path):
    book = opened(path)
    for place in PLACES:
        book.take(book.row(b"a", place), place + 1, MUCH)
    again = opened(path, column=3)
    assert [again.used_by(b"a", place) for place in PLACES] == [1, 2, 3]
    assert again.take(again.row(b"a", OWN), 4, MUCH) == 5


def test_the_next_writer_of_a_column_counts_on(path):
    for expected in range(1, 5):
        book = opened(path, column=2)
        assert book.take(book.row(b"a", OWN), 1, MUCH) == expected


@pytest.mark.parametrize("columns", [(0, 1), (0, 7, 8), (127, 0, 64)])
def test_all_columns_count_together(path, columns):
    books = [opened(path, column) for column in columns]
    rows = [book.row(b"a", OWN) for book in books]
    for book, at in zip(books, rows, strict=True):
        book.take(at, 1, MUCH)
    assert [book.used(at) for book, at in zip(books, rows, strict=True)] == [len(books)] * len(books)


def test_asking_gives_nobody_a_row(path):
    book = opened(path)
    assert [book.used_by(b"a", place) for place in PLACES] == [0, 0, 0]
    assert list(book._live[module._GIVEN : module._GIVEN + 3]) == [0, 0, 0]


Spent = st.lists(
    st.tuples(st.integers(0, 9), st.binary(max_size=3), st.sampled_from(PLACES), st.integers(1, 5)), max_size=60
)


@settings(max_examples=40)
@given(Spent, st.integers(1, 12))
def test_it_counts_as_a_dictionary_would(tmp_path_factory, spent, limit):
    path = tmp_path_factory.mktemp("books") / "book"
    create(path, PERIOD)
    books: dict[int, Book] = {}
    counted: dict[tuple[bytes, int], int] = {}
    for column, key, place, amount in spent:
        book = books.get(column) or books.setdefault(column, opened(path, column))
        before = counted.get((key, place), 0)
        expected = before + amount if before + amount <= limit else -1
        assert book.take(book.row(key, place), amount, limit) == expected
        counted[key, place] = max(before, expected)
    books.clear()
    assert {each: opened(path, 9).used_by(*each) for each in counted} == counted


def in_processes(count: int, work: Callable[[int], int]) -> Iterator[int]:
    """What `work(number)` returns in so many processes at the same time."""
    pipes = [os.pipe() for _ in range(count)]
    for number, (_, end) in enumerate(pipes):
        forked(lambda number=number, end=end: os.write(end, str(work(number)).encode()))  # type: ignore[misc]
    for end, other in pipes:
        os.close(other)
        with os.fdopen(end, "rb") as results:
            yield int(results.read())
        os.wait()


@pytest.mark.parametrize(("amount", "limit"), [(1, 1), (2, 3)])
def test_processes_that_want_the_last_of_it_never_take_too_much(path, amount, limit):
    """Row by row, so that every one of them is the last. Who is behind finds rows used up, and so catches up."""
    first = opened(path)
    rows = [first.row(b"%d" % number, OWN) for number in range(5_000)]

    def work(number: int) -> int:
        book = opened(path, number * 3)  # two of them in another block of columns
        return sum(book.take(at, amount, limit) >= 0 for at in rows if book.used(at) + amount <= limit)

    taken = sum(in_processes(4, work))
    used = [first.used(at) for at in rows]
    assert taken * amount == sum(used)
    assert max(used) == amount  # a second time there is no room
    assert len(rows) * 0.9 < taken <= len(rows)  # where all gave way to each other nobody got it


def test_processes_that_meet_new_callers_agree_on_their_rows(path):
    def work(number: int) -> int:
        book = opened(path, number)
        rows = [book.row(b"%d" % key, place) for key in range(300) for place in PLACES]
        for at in rows:
            book.take(at, 1, MUCH)
        return hash(tuple(rows))

    assert len(set(in_processes(4, work))) == 1
    book = opened(path)
    assert {book.used_by(b"%d" % key, place) for key in range(300) for place in PLACES} == {4}
    assert list(book._live[module._GIVEN : module._GIVEN + 3]) == [300] * 3


# -- rows are limited -------------------------------------------------------------------------------------------------


def test_rows_of_different_callers_are_different(path):
    book = opened(path)
    rows = [book.row(b"%d" % number, place) for number in range(1_000) for place in PLACES]
    assert len(set(rows)) == 3_000


@pytest.mark.parametrize("place", [IDENTIFIED, STRANGER])
def test_when_rows_run_out_newcomers_share(path, place):
    book = opened(path)
    early = book.row(b"early", place)
    book.take(early, 1, MUCH)
    use_up(book, place)
    late = {book.row(b"%d" % number, place) for number in range(500)}
    assert 400 < len(late) <= 500
    assert all(module._OWNED * 8 <= at < (module._OWNED + 2 * module.SHARED) * 8 for at in late)
    assert book.row(b"early", place) == early
    book.take(book.row(b"7", place), 5, MUCH)
    assert book.used_by(b"7", place) == 5
    assert book.used_by(b"early", place) == 1


def test_identified_callers_and_strangers_never_share(path):
    book = opened(path)
    use_up(book, IDENTIFIED)
    use_up(book, STRANGER)
    rows = [{book.row(b"%d" % number, place) for number in range(300)} for place in (IDENTIFIED, STRANGER)]
    assert not rows[0] & rows[1]


def test_consumers_never_share(path):
    book = opened(path)
    book.row(b"early", OWN)
    use_up(book, OWN)
    with pytest.raises(BookFull, match="no room for more than 131072 consumers"):
        book.row(b"late", OWN)
    assert book.row(b"early", OWN) == 0


# -- what goes wrong --------------------------------------------------------------------------------------------------


def broken(path: Path, at: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, data, at)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("at", "data", "reason"),
    [
        (0, b"SQLite format 3", "no book"),
        (8, struct.pack("=I", 2), "it has the form 2"),
        (12, struct.pack("=q", 999), "head is damaged"),
        (30, b"\1", "head is damaged"),
        (8 * module._GIVEN, struct.pack("=q", -1), "numbers are damaged"),
        (8 * module._GIVEN + 8, struct.pack("=q", 1 << 40), "numbers are damaged"),
        (8 * module._BACKED, struct.pack("=q", 1 << 20), "numbers are damaged"),
        (8 * module._BLOCKS, struct.pack("=q", 0), "numbers are damaged"),
        (8 * module._BLOCKS, struct.pack("=q", 17), "numbers are damaged"),
    ],
)
def test_a_damaged_file_is_refused(path, at, data, reason):
    broken(path, at, data)
    with pytest.raises(BookDamaged, match=reason):
        opened(path)


@pytest.mark.parametrize("size", [0, 5, 1 << 16, 1 << 22])
def test_a_file_that_is_cut_off_is_refused(path, size):
    os.truncate(path, size)
    with pytest.raises(BookDamaged):
        opened(path)


def test_a_book_of_another_period_is_refused(path):
    with pytest.raises(BookDamaged):
        Book(path, Period(0, 1_000), 0)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1 << 17), st.binary(min_size=1, max_size=50)), max_size=5))
def test_no_damage_is_worse_than_wrong_counts(tmp_path_factory, damages):
    path = tmp_path_factory.mktemp("books") / "book"
    create(path, PERIOD)
    opened(path).row(b"a", OWN)
    for at, data in damages:
        broken(path, at, data)
    try:
        book = opened(path)
        book.take(book.row(b"a", OWN), 1, MUCH)
    except (BookDamaged, BookFull):
        return
    assert isinstance(book.used_by(b"a", OWN), int)


def test_a_block_that_the_disk_never_got_is_made_again(path):
    """A machine lost its power when a ninth process had just come."""
    first = opened(path)
    first.take(first.row(b"a", OWN), 1, MUCH)
    size = path.stat().st_size
    opened(path, column=8)
    del first
    os.truncate(path, size)
    ninth = opened(path, column=8)
    assert ninth.used_by(b"a", OWN) == 1
    assert ninth.take(ninth.row(b"a", OWN), 1, MUCH) == 2


def test_a_row_given_out_right_before_the_power_failed_is_zero_for_the_next(path):
    book = opened(path)
    book.take(book.row(b"a", OWN), 7, MUCH)
    book._live[module._GIVEN] = 0  # the disk got the row, and not that it was given out
    again = opened(path)
    assert again.used(again.row(b"b", OWN)) == 0
    assert again.used_by(b"a", OWN) == 0
    assert again.row(b"a", OWN) != again.row(b"b", OWN)


def test_a_full_disk_is_an_error_and_not_the_end(path, monkeypatch):
    book = opened(path)
    with monkeypatch.context() as patch:

        def full(descriptor: int, at: int, size: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            book.row(b"a", OWN)
        use_up(book, STRANGER)
        with pytest.raises(OSError, match="No space"):
            book.row(b"a", STRANGER)
    assert book.take(book.row(b"a", OWN), 1, MUCH) == 1
    assert book.take(book.row(b"a", STRANGER), 1, MUCH) == 1


@pytest.mark.parametrize("column", [0, 9])
def test_whatever_is_written_to_has_disk_space(path, column):
    """Otherwise a full disk would kill the process (SIGBUS)."""
    book = opened(path, column)
    rows = [book.row(b"%d" % number, place) for number in range(600) for place in PLACES]
    use_up(book, STRANGER)
    rows.append(book.row(b"shared", STRANGER))
    book.sync()
    places = [(module._CELLS + column // 8 * module._BLOCK + 8 * at, 64) for at in rows]
    places += [(module._INDEX + 4 * slot, 4) for slot in range(module._SLOTS) if book._index[slot]]
    assert all(os.lseek(book._fd, at, os.SEEK_DATA) == at for at, _ in places)


def test_a_lock_that_is_not_let_go_is_an_error_soon(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    book = opened(path)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BookBusy):
            book.row(b"a", OWN)
    assert book.row(b"a", OWN) == 0


def test_the_lock_is_let_go_whatever_happens(path):
    book = opened(path)
    with pytest.raises(KeyError), locked(book._fd):
        raise KeyError
    with locked(os.open(path, os.O_RDONLY)):
        pass


def test_a_file_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    def broken_off(descriptor: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", broken_off)
        with pytest.raises(OSError, match="full"):
            create(tmp_path / "book", PERIOD)
    assert not (tmp_path / "book").exists()
    create(tmp_path / "book", PERIOD)
    assert opened(tmp_path / "book").used_by(b"a", OWN) == 0


def test_sync_leaves_nothing_unsaid(path):
    book = opened(path)
    assert not book.dirty
    at = book.row(b"a", OWN)
    assert book.dirty
    book.sync()
    assert not book.dirty
    book.take(at, 1, MUCH)
    assert book.dirty
    book.sync()
    book.give_back(at, 1)
    assert book.dirty
