"""Rows of shared counters: who has one of its own, who shares, and that nobody meets whom it should not."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.arena import Arena
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.limits.table import COLUMNS, IDENTIFIED, OWN, OWN_ROWS, SIZES, STRANGER, Memo, Shape, Table
from tests.limits.workers import FEW, contexts
from tests.support.forked import forked

WIDTH = 8


def table_of(context: BuildContext, sizes=FEW, width=WIDTH) -> Table:
    return Table.of(context, "rows", width, sizes)


def keys(count: int) -> list[bytes]:
    return [b"key %d" % number for number in range(count)]


def test_a_known_key_has_a_row_of_its_own_in_every_worker():
    first, second = (table_of(context) for context in contexts(2))
    rows = {first.row(key, OWN) for key in keys(4)}
    assert rows | {second.row(key, OWN) for key in reversed(keys(8))} == {second.row(key, OWN) for key in keys(8)}
    assert len(rows) == 4
    assert len({second.row(key, OWN) for key in keys(8)}) == 8
    assert second.cells[OWN_ROWS] == 8


def test_it_shows_how_many_keys_have_a_row_of_their_own():
    context = contexts(1)[0]
    table = table_of(context)
    (figures,) = context.figures[context.instance]
    assert figures() == {"keys": 0, "keys_most": FEW.own}
    for key in keys(3):
        table.row(key, OWN)
    table.row(b"shares", STRANGER)
    assert figures() == {"keys": 3, "keys_most": FEW.own}


def test_rows_are_the_same_in_other_processes():
    arena = Arena(size=1 << 24)
    ours = table_of(contexts(1, arena)[0])
    rows = [ours.row(b"seen here", OWN), ours.row(b"shared", STRANGER)]

    def look() -> bool:
        theirs = table_of(contexts(2, arena)[1])
        same = [theirs.row(b"seen here", OWN), theirs.row(b"shared", STRANGER)] == rows
        theirs.cells[theirs.row(b"seen there", OWN)] = 7
        return same

    assert os.waitpid(forked(look), 0)[1] == 0
    assert ours.cells[ours.row(b"seen there", OWN)] == 7


@given(st.sets(st.binary(max_size=40), max_size=60))
def test_no_kind_of_key_meets_another_kind(found):
    table = table_of(contexts(1, Arena(size=1 << 24))[0])
    rows = {kind: {table.row(key, kind) for key in found} for kind in (OWN, IDENTIFIED, STRANGER)}
    assert len(set().union(*rows.values())) == sum(map(len, rows.values()))
    assert [len(rows[kind]) <= most for kind, most in zip((OWN, IDENTIFIED, STRANGER), FEW, strict=True)] == [True] * 3
    assert len(rows[OWN]) == min(len(found), FEW.own)


def test_rows_do_not_overlap_and_begin_at_cache_lines():
    table = table_of(contexts(1)[0], width=9)
    rows = sorted({table.row(key, kind) for key in keys(200) for kind in (OWN, IDENTIFIED, STRANGER)})
    assert len(rows) == sum(FEW)
    assert all(two - one >= 16 for one, two in pairwise(rows))
    assert not any(row % 8 for row in rows)
    assert rows[-1] + 16 == len(table.cells)


def test_when_own_rows_are_used_up_known_keys_share_those_and_no_stranger_s():
    table = table_of(contexts(1)[0])
    own = {table.row(key, OWN) for key in keys(FEW.own)}
    assert {table.row(key, OWN) for key in keys(500)} == own


def test_which_row_a_stranger_gets_is_not_to_be_known_from_outside():
    tables = [table_of(contexts(1)[0]) for _ in range(2)]
    assert len({tuple(table.row(key, STRANGER) for key in keys(40)) for table in tables}) == 2


def test_strangers_without_number_take_no_more_memory():
    """With the sizes as they are: 10 million keys meet 65,536 rows, of 192 bytes for buckets with eight columns."""
    table = Table.of(contexts(1)[0], "bucket", 24)
    rows = {table.row(b"%d" % number, STRANGER) for number in range(200_000)}
    assert SIZES.strangers * 0.94 < len(rows) <= SIZES.strangers  # 1 - e^-3 of them
    assert max(rows) - min(rows) < SIZES.strangers * 24
    assert table.cells[OWN_ROWS] == 0


def test_the_columns_in_use_are_those_of_workers_that_came():
    one, *_, six = contexts(6)
    assert table_of(one).cells[COLUMNS] == 1
    assert table_of(six).cells[COLUMNS] == 6
    assert table_of(one).cells[COLUMNS] == 6


def test_a_process_knows_that_it_follows_another():
    shape = Shape(WIDTH, 8, FEW)
    memory = memoryview(bytearray(8 * shape.cells))
    assert not Table(memory, shape, 0, process=1).taken_over
    assert not Table(memory, shape, 0, process=1).taken_over  # a reload
    assert not Table(memory, shape, 1, process=2).taken_over
    assert Table(memory, shape, 0, process=3).taken_over


def test_clearing_a_cell_clears_it_in_every_row_and_no_other():
    table = table_of(contexts(1)[0])
    rows = [table.row(key, kind) for key in keys(300) for kind in (OWN, IDENTIFIED, STRANGER)]
    for row in rows:
        for cell in range(WIDTH):
            table.cells[row + cell] = 5
    table.clear(2)
    assert {tuple(table.cells[row : row + WIDTH]) for row in rows} == {(5, 5, 0, 5, 5, 5, 5, 5)}


def test_where_nothing_is_served_it_stands_alone():
    tables = [table_of(BuildContext("limit")) for _ in range(2)]
    tables[0].cells[tables[0].row(b"a", OWN)] = 1
    assert tables[1].cells[tables[1].row(b"a", OWN)] == 0


def test_no_room_for_a_table_is_a_fault_of_the_configuration():
    with pytest.raises(ConfigError, match="no room"):
        Table.of(contexts(1, Arena(size=1 << 20))[0], "rows", WIDTH)


@pytest.mark.parametrize("most", [1, 5])
def test_what_was_found_is_remembered_and_bounded(most):
    asked = []
    memo = Memo(lambda key: asked.append(key) or key, most)
    for key in range(20):
        assert memo[key] == memo[key] == key
        assert len(memo) <= most
    assert asked == list(range(20))
