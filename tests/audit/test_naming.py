"""Findings bear the time and request id of their record, or of the one before."""

from __future__ import annotations

from gatewayd.audit.actions import act
from gatewayd.audit.following import Following
from gatewayd.audit.frames import SIGNATURE, decode_opening
from gatewayd.audit.naming import named
from gatewayd.audit.report import Finding
from gatewayd.audit.segments import ACTIONS
from gatewayd.audit.trust import Trust
from tests.support.evidence import BEGAN, SECOND, Bench, only_files


def name(bench, record, kind="changed", chain="calls-0"):
    data = bench.path(1, chain).read_bytes()
    opening = bench.frames(1, chain)[0]
    said = decode_opening(opening.body[SIGNATURE:])
    followed = Following(data, opening, said, Trust(only_files(bench)))
    return named(Finding(chain, 1, record, kind, "text"), followed)


def test_the_record_itself_if_it_is_there(tmp_path):
    bench = Bench(tmp_path)
    bench.write([[2, 2]])
    found = name(bench, 3)
    assert (found.at, found.request_id, found.before) == ((BEGAN + 3) * SECOND, "req-3", False)


def test_else_the_one_before(tmp_path):
    bench = Bench(tmp_path)
    bench.write([[2, 2]])
    for found in (name(bench, 5), name(bench, 5, "removed"), name(bench, 5, "truncated")):
        assert (found.at, found.request_id, found.before) == ((BEGAN + 4) * SECOND, "req-4", True)
    assert name(bench, 3, "removed").request_id == "req-2"
    assert name(bench, 1, "removed").at == 0
    assert name(bench, 9).at == 0


def test_one_that_cannot_be_read_is_named_by_the_one_before(tmp_path):
    bench = Bench(tmp_path)
    bench.write([[2]])
    body = bench.frames(1)[2].body
    bench.path(1).write_bytes(bench.path(1).read_bytes().replace(body, b"\xc1" * len(body)))
    assert (name(bench, 2).request_id, name(bench, 2).before) == ("req-1", True)


def test_actions_have_a_time(tmp_path):
    bench = Bench(tmp_path)
    act(tmp_path, "one", actor="me", wall=lambda: 3.0)
    found = name(bench, 1, chain=ACTIONS)
    assert (found.at, found.request_id) == (3 * SECOND, "")
