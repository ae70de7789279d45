"""Openings: what is believed of them."""

from __future__ import annotations

import pytest

from gatewayd.audit import opening
from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import RECORD, frame
from gatewayd.audit.opening import Opened
from gatewayd.audit.stored import Stored
from gatewayd.audit.trust import Trust
from tests.support.evidence import Bench, only_files, somebody


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.write([[2], [1]])
    return made


def looked_at(bench, number=1, chain="calls-0"):
    read = opening.read(Stored(chain, bench.state), number)
    return opening.checked(read, chain, Trust(only_files(bench)))


def test_what_it_says(bench):
    found = looked_at(bench, 2)
    assert (found.number, found.fault, found.said.segment, found.said.records) == (2, "", 2, 2)
    assert found.frame.previous == opening.read(Stored("calls-0", bench.state), 2).frame.previous
    assert found.behind == bench.frames(2)[1].previous


@pytest.mark.parametrize("size", [0, 1, 4, 50, 150])
def test_one_that_was_cut_off_says_nothing(bench, size):
    bench.path(2).write_bytes(bench.path(2).read_bytes()[:size])
    assert looked_at(bench, 2) == Opened(2)


@pytest.mark.parametrize(
    ("content", "fault", "kind"),
    [
        (lambda data: b"text", "its opening cannot be read", "changed"),
        (lambda data: frame(RECORD, bytes(32), b""), "it does not begin with an opening", "changed"),
        (lambda data: frame(1, bytes(32), b"s" * 64 + b"?"), "its opening cannot be read", "changed"),
        (lambda data: data[:3] + b"\xff" + data[4:], "its opening cannot be read", "changed"),
        (lambda data: data[:50] + b"?" + data[51:], "the signature of its opening is not right", "changed"),
    ],
)
def test_one_that_is_not_right(bench, content, fault, kind):
    bench.path(2).write_bytes(content(bench.path(2).read_bytes()))
    found = looked_at(bench, 2)
    assert (found.fault, found.kind) == (fault, kind)


def test_one_whose_change_nothing_behind_it_tells_of(bench):
    data = bench.path(2).read_bytes()
    bench.path(2).write_bytes(data[:50] + b"?" + data[51 : bench.frames(2)[0].end])
    assert looked_at(bench, 2).kind == "forged"


def test_one_by_another_key(bench):
    other = somebody()
    chain = Chain("calls-0", other, 2, bytes(32), 3)
    bench.path(3).write_bytes(chain.open(1) + chain.append([b"x"]))
    found = looked_at(bench, 3)
    assert (found.kind, found.fault) == ("forged", f"it is signed with {other.id}, a key that is not trusted")


def test_one_of_another_place(bench):
    bench.path(3).write_bytes(bench.path(1).read_bytes())
    assert (looked_at(bench, 3).kind, looked_at(bench, 3).fault) == ("segment moved", "it is segment 1, moved here")
    bench.folder().rename(bench.folder("calls-1"))
    assert looked_at(bench, 1, "calls-1").fault == "it is segment 1 of the chain calls-0"
