from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.collect.sinks.following import Following

from .recorded import names, opened, put

COLUMNS = ["request_id"]


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def named(batch):
    """Chains and numbers of a batch, or of none."""
    return [] if batch is None else [row[-3:-1] for row in batch.rows]


def followed(following, most=100):
    """All that follows, committed."""
    found = []
    while (batch := following.read(COLUMNS, most)) is not None:
        found += named(batch)
        following.commit(batch)
    return found


def execute(store, statement):
    with store.cursor() as cursor:
        cursor.execute(statement)


def test_it_reads_in_order_once_and_goes_on_after_a_restart(store):
    put(store, 5)
    following = Following(store, "a")
    batch = following.read(COLUMNS, 3)
    assert named(batch) == names(3)
    assert batch.behind == 2
    assert batch.oldest == pytest.approx(1772366400.000001)
    assert named(following.read(COLUMNS, 3)) == names(3)  # not committed: the same again
    following.commit(batch)
    assert followed(Following(store, "a")) == names(2, first=4)
    put(store, 2, "calls-1")
    put(store, 2)
    assert followed(following) == [*names(2, first=4), *names(2, "calls-1"), *names(2, first=6)]
    assert followed(Following(store, "a")) == []
    assert following.read(COLUMNS, 3) is None


def test_readers_whose_names_begin_alike_are_apart(store):
    put(store, 2)
    assert followed(Following(store, "a")) == names(2)
    assert followed(Following(store, "ab")) == names(2)
    assert followed(Following(store, "a")) == []


def test_a_new_reader_may_begin_with_what_comes(store):
    put(store, 2)
    following = Following(store, "a", "newest")
    assert following.read(COLUMNS, 3) is None
    put(store, 1)
    put(store, 1, "calls-1")
    assert followed(following) == [*names(1, first=3), *names(1, "calls-1")]
    assert followed(Following(store, "b", "newest")) == []


def test_rows_removed_in_front_do_not_move_it(store):
    """DuckDB counts rows anew when it cleans up."""
    put(store, 300_000)
    following = Following(store, "a")
    batch = following.read(COLUMNS, 150_000)
    following.commit(batch)
    execute(store, "DELETE FROM calls WHERE number % 10 <> 0")
    execute(store, "CHECKPOINT")
    with store.cursor() as cursor:
        cursor.execute("SELECT max(rowid) FROM calls")
        assert cursor.fetchone()[0] < 150_000
    expected = [("calls-0", number) for number in range(150_010, 300_001, 10)]
    assert followed(following, 10_000) == expected
    assert followed(Following(store, "a")) == []


def test_everything_removed(store):
    put(store, 10)
    following = Following(store, "a")
    assert len(followed(following)) == 10
    execute(store, "DELETE FROM calls")
    execute(store, "CHECKPOINT")
    assert followed(following) == []
    put(store, 3, first=11)
    assert followed(following) == names(3, first=11)


def test_records_removed_before_they_were_read_are_counted(store):
    put(store, 10)
    following = Following(store, "a")
    following.commit(following.read(COLUMNS, 3))
    execute(store, "DELETE FROM calls WHERE number <= 5")
    batch = following.read(COLUMNS, 10)
    assert (named(batch), batch.skipped) == (names(5, first=6), 2)


def test_nothing_was_skipped_where_the_chain_itself_has_a_gap(store):
    put(store, 3)
    following = Following(store, "a")
    following.commit(following.read(COLUMNS, 3))
    put(store, 1, first=9)
    assert following.read(COLUMNS, 10).skipped == 0
    put(store, 1, "calls-1", first=4)
    assert following.read(COLUMNS, 10).skipped == 3  # a chain of which it saw no beginning


def test_what_was_removed_before_a_reader_was_is_not_skipped(store):
    put(store, 3, first=7)
    assert Following(store, "a").read(COLUMNS, 10).skipped == 0


def test_a_planned_batch_is_read_again_as_it_was(store):
    put(store, 3)
    put(store, 2, "calls-1")
    following = Following(store, "a")
    batch = following.read(COLUMNS, 5)
    following.plan(batch)
    put(store, 4)
    for again in (following.read(COLUMNS, 100), Following(store, "a").read(COLUMNS, 1)):
        assert (named(again), again.token, again.sent) == (named(batch), batch.token, batch.sent)
    following.commit(batch)
    after = Following(store, "a").read(COLUMNS, 100)
    assert named(after) == names(4, first=4)
    assert after.token != batch.token


def test_a_planned_batch_keeps_its_name_though_some_of_it_was_removed(store):
    put(store, 5)
    following = Following(store, "a")
    batch = following.read(COLUMNS, 4)
    following.plan(batch)
    execute(store, "DELETE FROM calls WHERE number <= 2")
    again = Following(store, "a").read(COLUMNS, 4)
    assert (named(again), again.token) == (names(2, first=3), batch.token)
    execute(store, "DELETE FROM calls WHERE number <= 4")
    last = Following(store, "a").read(COLUMNS, 4)
    assert (named(last), last.skipped) == (names(1, first=5), 4)
    execute(store, "DELETE FROM calls")
    assert Following(store, "a").read(COLUMNS, 4) is None


def test_a_planned_batch_of_rows_that_stood_far_apart(store):
    """Identifiers move together, and others near them."""
    put(store, 300_000)
    execute(store, "DELETE FROM calls WHERE number % 1000 <> 0 OR number < 5000")
    following = Following(store, "a")
    following.remembered("")
    batch = following.read(COLUMNS, 3500)
    assert named(batch) == [("calls-0", number) for number in (5000, 6000, 7000, 8000)]
    following.plan(batch)
    execute(store, "CHECKPOINT")
    with store.cursor() as cursor:
        cursor.execute("SELECT max(rowid) FROM calls")
        assert cursor.fetchone()[0] < 3500
    again = Following(store, "a").read(COLUMNS, 1)
    assert (named(again), again.token) == (named(batch), batch.token)
    assert again.behind == 292


def test_plans_that_come_to_nothing_leave_no_trace(store):
    """Or the next one's name would not be the same when it is read again."""
    put(store, 2)
    put(store, 2, "calls-1")
    following = Following(store, "a")
    following.plan(following.read(COLUMNS, 3))
    execute(store, "DELETE FROM calls WHERE chain = 'calls-0' OR number = 1")
    put(store, 3, first=3)
    following = Following(store, "a")
    batch = following.read(COLUMNS, 2)
    assert (named(batch), batch.skipped) == ([("calls-1", 2), ("calls-0", 3)], 3)
    following.plan(batch)
    again = Following(store, "a").read(COLUMNS, 10)
    assert (named(again), again.token, again.skipped) == (named(batch), batch.token, 3)
    following.commit(again)
    assert followed(Following(store, "a")) == names(2, first=4)


def test_a_chain_of_a_plan_that_is_gone(store):
    put(store, 2)
    put(store, 2, "calls-1")
    following = Following(store, "a")
    batch = following.read(COLUMNS, 4)
    following.plan(batch)
    execute(store, "DELETE FROM calls WHERE chain = 'calls-0'")
    again = following.read(COLUMNS, 4)
    assert (named(again), again.token, again.skipped) == (names(2, "calls-1"), batch.token, 2)


def test_a_part_of_a_batch_has_its_own_name(store):
    put(store, 4)
    batch = Following(store, "a").read(COLUMNS, 4)
    first, second = batch.part(0, 2), batch.part(2, 4)
    assert named(first) + named(second) == named(batch)
    assert len({first.token, second.token, batch.token}) == 3
    assert batch.name_of(1) == "calls-0 2"


def test_numbers_are_remembered_with_the_position(store):
    put(store, 2)
    following = Following(store, "a")
    assert following.remembered("size") is None
    following.commit(following.read(COLUMNS, 1), {"size": 7})
    assert following.remembered("size") == 7
    following.remember({"size": 8, "inode": 2**62})
    again = Following(store, "a")
    assert (again.remembered("size"), again.remembered("inode")) == (8, 2**62)
    assert followed(again) == names(1, first=2)


def test_what_is_remembered_first_of_all(store):
    for number in (1, 2):
        Following(store, "a").remember({"size": number})
    assert Following(store, "a").remembered("size") == 2


def test_an_expression_that_fails_leaves_it_where_it_was(store):
    put(store, 2)
    following = Following(store, "a")
    with pytest.raises(duckdb.Error):
        following.read(["nothing"], 1)
    assert followed(following) == names(2)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put-1", "send", "fail", "plan", "restart", "purge"]), st.integers(1, 9)),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_whatever_happens_every_record_is_sent_or_skipped_and_none_twice(tmp_path_factory, steps):
    store = opened(tmp_path_factory.mktemp("store"))
    try:
        put(store, 1)
        following, sent, skipped = Following(store, "a"), [], 0
        following.remembered("")  # it has begun
        made = {"calls-0": 1, "calls-1": 0}
        for step, count in [*steps, ("send", 10**6)]:
            if step.startswith("put"):
                chain = "calls-1" if step == "put-1" else "calls-0"
                put(store, count, chain)
                made[chain] += count
            elif step == "restart":
                following = Following(store, "a")
            elif step == "purge":  # all chains keep their last record, so that `put` knows where to go on
                execute(
                    store,
                    "DELETE FROM calls WHERE number + 2 < (SELECT max(number) FROM calls AS c "
                    "WHERE c.chain = calls.chain)",
                )
                execute(store, "CHECKPOINT")
            else:
                while (batch := following.read(COLUMNS, count)) is not None:
                    if step == "plan":
                        following.plan(batch)
                    if step != "send":
                        break
                    following.commit(batch)
                    sent += named(batch)
                    skipped += batch.skipped
        assert len(sent) == len(set(sent))
        for chain in made:
            assert [number for of, number in sent if of == chain] == sorted(n for of, n in sent if of == chain)
        assert sum(made.values()) == len(sent) + skipped
    finally:
        store.close()
