from __future__ import annotations

import logging

import pytest

from gatewayd.audit.segments import segment_path
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.collect import chains as module
from gatewayd.collect.chains import GRACE, RETRY, Chains, Figures
from gatewayd.core.clock import FakeClock

from .spooled import START, Spooled, call


@pytest.fixture
def clock():
    """A clock that stands, an hour behind the first call."""
    return FakeClock(wall=START + 3600.0)


@pytest.fixture
def chains(tmp_path, clock):
    """The chains of a state directory, as one reads them first."""
    (tmp_path / "audit").mkdir()
    made = Chains(tmp_path, None, SubjectKeys(tmp_path), clock, Figures())
    made.start({})
    yield made
    made.close()


def read(chains):
    """Everything there is: chain and number of each record, in the order of reading."""
    found = []
    while (piece := chains.look().piece) is not None:
        found += [(piece.chain, number) for number in piece.batch.lines["number"].tolist()]
    return found


def test_chains_come_while_it_runs(tmp_path, chains):
    assert chains.look().piece is None
    Spooled(tmp_path, "calls-0").add(call())
    assert read(chains) == [("calls-0", 1)]
    Spooled(tmp_path, "calls-1").add(call())
    assert read(chains) == [("calls-1", 1)]


def test_what_administrators_do_is_no_call(tmp_path, chains):
    Spooled(tmp_path, "actions").add(call())
    assert read(chains) == []


def test_the_chain_that_is_behind_most_is_read_first(tmp_path, chains, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.following.PIECE", 1)
    for name, offset in (("calls-0", 0), ("calls-1", 3)):
        spooled = Spooled(tmp_path, name)
        for second in range(3):
            spooled.add(call(START + offset + second * 4))
    order = read(chains)
    assert sorted(order) == [(name, number) for name in ("calls-0", "calls-1") for number in (1, 2, 3)]
    assert order[2:] == [("calls-0", 2), ("calls-1", 2), ("calls-0", 3), ("calls-1", 3)]


def test_from_positions(tmp_path, chains):
    spooled = Spooled(tmp_path)
    spooled.add(call())
    position = chains.look().piece.behind
    spooled.add(call())
    chains.start({"calls-0": position})
    assert read(chains) == [("calls-0", 2)]
    chains.start({})
    assert read(chains) == [("calls-0", 1), ("calls-0", 2)]


def test_until_when_everything_is_read(tmp_path, chains, clock, monkeypatch):
    assert chains.closed() == clock.wall() - GRACE
    monkeypatch.setattr("gatewayd.collect.following.PIECE", 1)
    spooled = Spooled(tmp_path)
    spooled.add(call(START + 5))
    spooled.add(call(START + 7))
    assert chains.look().closed == 0.0 - GRACE  # nothing was known of the chain by then
    assert chains.closed() == START + 5 - GRACE
    assert chains.look().closed == START + 5 - GRACE
    assert chains.look() == (None, clock.wall() - GRACE)


def test_how_far_it_is_behind(tmp_path, chains, clock, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.following.PIECE", 1)
    spooled = Spooled(tmp_path)
    for second in range(3):
        spooled.add(call(START + second))
    figures = chains._figures
    chains.look()
    size = spooled.path.stat().st_size
    clock.advance(module.MEASURE_EVERY)
    chains.look()
    assert (figures.oldest, 0 < figures.behind < size) == (START, True)
    while chains.look().piece is not None:
        pass
    clock.advance(module.MEASURE_EVERY)
    chains.look()
    assert (figures.oldest, figures.behind) == (0.0, 0)


def test_a_broken_chain_stops_and_the_others_do_not(tmp_path, chains, clock):
    broken, sound = Spooled(tmp_path, "calls-0"), Spooled(tmp_path, "calls-1")
    broken.add(call())
    data = broken.path.read_bytes()
    broken.path.write_bytes(data.replace(b"api.example", b"api.exampel"))
    sound.add(call())
    assert read(chains) == [("calls-1", 1)]
    sound.add(call())
    assert read(chains) == [("calls-1", 2)]
    figures = chains._figures
    assert (figures.broken, figures.breaks) == (1, 1)
    broken.path.write_bytes(data)
    assert read(chains) == []
    clock.advance(RETRY)
    assert read(chains) == [("calls-0", 1)]
    assert (figures.broken, figures.breaks) == (0, 1)


def test_a_segment_that_cannot_be_read_now(tmp_path, chains, clock, caplog):
    blocked, sound = Spooled(tmp_path, "calls-0"), Spooled(tmp_path, "calls-1")
    segment_path(blocked.folder, 1).mkdir()
    sound.add(call())
    assert read(chains) == [("calls-1", 1)]
    assert chains._figures.unread == 1
    assert caplog.record_tuples[0][1:] == (
        logging.ERROR,
        f"the audit's calls-0 cannot be read: [Errno 21] Is a directory: '{segment_path(blocked.folder, 1)}'",
    )
    segment_path(blocked.folder, 1).rmdir()
    blocked.add(call())
    assert read(chains) == []
    clock.advance(RETRY)
    assert read(chains) == [("calls-0", 1)]


def test_what_is_missing_is_counted_once(tmp_path, chains):
    spooled = Spooled(tmp_path)
    spooled.add(call())
    spooled.gap(3)
    spooled.add(call())
    assert read(chains) == [("calls-0", 1), ("calls-0", 5)]
    chains.close()
    assert chains._figures.missing == 3


def test_figures_add_up():
    figures, more = Figures(), Figures()
    figures.records, more.records, more.cpu, more.broken = 2, 3, 0.5, 1
    figures.add(more)
    assert (figures.records, figures.cpu, figures.broken) == (5, 0.5, 0)
