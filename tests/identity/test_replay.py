"""What has been shown once is not taken again, whichever worker sees it, and nothing is forgotten for want of room."""

from __future__ import annotations

import os
import threading

import pytest

from gatewayd.core.arena import Arena
from gatewayd.identity.replay import ROW, Replays

SIZE = 1 << 26


def table(arena=None, worker=0, cells=1024, columns=8, name="test"):
    return Replays(arena or Arena(size=SIZE), name, cells, worker, columns)


def test_once_is_enough():
    replays = table()
    assert replays.first(b"anna", b"1", 160, 100) == ""
    assert replays.first(b"anna", b"1", 160, 100) == "replayed"
    assert replays.first(b"anna", b"2", 160, 100) == ""


def test_holders_have_identifiers_of_their_own():
    replays = table()
    assert replays.first(b"anna", b"1", 160, 100) == ""
    assert replays.first(b"ben", b"1", 160, 100) == ""
    assert replays.first(b"ann", b"a1", 160, 100) == ""


@pytest.mark.parametrize(("now", "verdict"), [(159.9, "replayed"), (160.0, "")])
def test_it_is_remembered_until_its_time_is_over(now, verdict):
    replays = table()
    replays.first(b"anna", b"1", 160, 100)
    assert replays.first(b"anna", b"1", 300, now) == verdict


def test_a_part_of_a_second_is_rounded_up():
    replays = table()
    replays.first(b"anna", b"1", 160.2, 100)
    assert replays.first(b"anna", b"1", 160.2, 160.9) == "replayed"


def test_what_one_worker_has_seen_all_have_seen():
    arena = Arena(size=SIZE)
    workers = [table(arena, number) for number in range(8)]
    assert workers[3].first(b"anna", b"1", 160, 100) == ""
    assert [worker.first(b"anna", b"1", 160, 100) for worker in workers] == ["replayed"] * 8


def test_a_worker_that_died_has_seen_what_it_saw():
    arena = Arena(size=SIZE)
    table(arena, 2).first(b"anna", b"1", 160, 100)
    assert table(arena, 2).first(b"anna", b"1", 160, 100) == "replayed"


def test_shown_to_all_workers_at_once_one_at_most_takes_it():
    arena = Arena(size=SIZE)
    workers = [table(arena, number, cells=1 << 15, columns=4) for number in range(4)]
    rounds = [os.urandom(8) for _ in range(500)]
    taken: list[bytes] = []
    start = threading.Barrier(4)

    def show(worker):
        start.wait(20)
        taken.extend(each for each in rounds if not worker.first(b"anna", each, 160, 100))

    threads = [threading.Thread(target=show, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(taken) == len(set(taken))
    assert taken


def test_two_that_see_each_other_refuse_both_and_it_stays_used():
    """Each writes before it looks; here the other's writing falls between."""
    arena = Arena(size=SIZE)
    one, other = table(arena, 0), table(arena, 1)
    own = one._columns[0]
    claim = type(own).claim
    seen = []

    class Interrupted(type(own)):
        def claim(self, *arguments):
            done = claim(self, *arguments)
            seen.append(other.first(b"anna", b"1", 160, 100))
            return done

    column = Interrupted.__new__(Interrupted)
    column.entries, column.expiries = own.entries, own.expiries
    one._columns[0] = column
    assert one.first(b"anna", b"1", 160, 100) == "replayed"
    assert seen == ["replayed"]
    assert table(arena, 2).first(b"anna", b"1", 160, 100) == "replayed"


def test_without_room_it_refuses_and_forgets_nothing():
    replays = table(cells=ROW * 4)
    shown = [b"%d" % number for number in range(1000)]
    taken = [each for each in shown if not replays.first(os.urandom(8) + each, each, 160, 100)]
    assert ROW < len(taken) <= ROW * 4
    assert "full" in {replays.first(b"somebody", b"%d" % number, 160, 100) for number in range(100)}
    assert not any(replays.first(b"somebody", b"new %d" % number, 260, 160) for number in range(20)), "room again"


def test_what_was_taken_is_refused_even_when_full():
    replays = table(cells=ROW)
    taken = [b"%d" % number for number in range(ROW)]
    assert not any(replays.first(each, each, 160, 100) for each in taken)
    assert {replays.first(each, each, 160, 100) for each in taken} == {"replayed"}
    assert replays.first(b"next", b"next", 160, 100) == "full"


def test_one_holder_cannot_take_the_room_of_all():
    replays = table(cells=ROW * 64)
    verdicts = [replays.first(b"greedy", b"%d" % number, 160, 100) for number in range(ROW * 200)]
    assert "full" in verdicts
    assert verdicts.count("") <= ROW * 64 // 2
    others = [replays.first(os.urandom(8), b"1", 160, 100) for _ in range(200)]
    assert not any(others)


def test_only_columns_that_were_written_are_read():
    replays = table(cells=4096, columns=64)
    replays.first(b"anna", b"1", 160, 100)
    assert list(replays._used) == [1, *[0] * 63]


def test_tables_of_other_names_are_other_tables():
    arena = Arena(size=SIZE)
    one, other = table(arena, name="one"), table(arena, name="other")
    assert one.first(b"anna", b"1", 160, 100) == other.first(b"anna", b"1", 160, 100) == ""
    assert one.secret != other.secret


def test_it_does_not_tell_its_secret():
    replays = table()
    assert repr(replays) == "<Replays cells=1024 columns=8>"
    assert any(replays.secret)
