"""What is under way, over all workers."""

from __future__ import annotations

import pytest

from gatewayd.core.arena import Arena
from gatewayd.limits.in_flight import InFlight
from gatewayd.limits.table import OWN, STRANGER, Shape, Table
from tests.limits.workers import FEW, contexts, together


def workers_of(count, limit, arena=None):
    return [InFlight.of(context, limit) for context in contexts(count, arena or Arena(size=1 << 26))]


def test_all_workers_count_together():
    flights = workers_of(3, 4)
    spots = [each.spot(b"key", OWN) for each in flights]
    assert [flights[at % 3].begin(spots[at % 3]) for at in range(6)] == [1, 2, 3, 4, 0, 0]
    flights[1].end(spots[1])
    assert flights[2].count(spots[2]) == 3
    assert [flights[2].begin(spots[2]) for _ in range(2)] == [4, 0]


def test_two_that_give_way_to_each_other_try_again():
    flight, _ = workers_of(2, 1)
    spot = flight.spot(b"key", OWN)
    flight._cells[spot + 1] = 1  # the other has begun …
    counted, count = [], flight.count

    def look(spot):
        counted.append(count(spot))
        flight._cells[spot + 1] = 0  # … and gives way
        return counted[-1]

    flight.count = look
    assert flight.begin(spot) == 1
    assert counted == [2, 0, 1]


@pytest.mark.parametrize("workers", [2, 8])
def test_processes_never_have_more_under_way_than_the_limit(workers):
    flights = workers_of(workers, 3)
    spots = [each.spot(b"key", OWN) for each in flights]

    def work(worker):
        flight, spot, most = flights[worker], spots[worker], 0
        for _ in range(3_000):
            count = flight.begin(spot)
            most = max(most, count)
            if count:
                flight.end(spot)
        return most

    assert max(together(workers, work)) <= 3
    assert flights[0].count(spots[0]) == 0


def test_the_exchanges_of_a_dead_worker_count_no_more():
    shape = Shape(8, 8, FEW)
    memory = memoryview(bytearray(8 * shape.cells))
    living, dying = (InFlight(Table(memory, shape, column, process=column + 1), 5) for column in (0, 1))
    own, shared = living.spot(b"acme", OWN), living.spot(b"stranger", STRANGER)
    for each in (living, dying, dying):
        assert each.begin(own)
        assert each.begin(shared)
    assert [living.count(own), living.count(shared)] == [3, 3]
    successor = InFlight(Table(memory, shape, 1, process=9), 5)
    assert [successor.count(own), successor.count(shared)] == [1, 1]
    InFlight(Table(memory, shape, 0, process=1), 5)  # a reload clears nothing
    assert living.count(own) == 1
