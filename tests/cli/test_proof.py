"""How what was verified reads."""

from __future__ import annotations

from gatewayd.audit.report import ChainReport, Finding, Lost, Report
from gatewayd.cli.proof import place, print_report, records, told
from tests.support.evidence import BEGAN, SECOND, Bench, call


def test_what_is_fine(capsys):
    lost = Lost(2, 5, 3, BEGAN * SECOND)
    chain = ChainReport("calls-0", 3, 4, 20, 12, 17, 3, True, 70, 3, [lost])
    print_report(Report([chain], ["0123"], 0, 2.0, ["a note"]))
    assert capsys.readouterr().out.splitlines() == [
        "calls-0: 20 records, segments 4 to 6, proven up to 17",
        "  retired: 3 segments before them, by retention; what remains goes on from them",
        "  gap: records 5 to 7 were lost for want of room, 2027-01-15T08:00:00.000000Z",
        "  not signed yet: 3 records, written by this gateway, by their MACs",
        "  cut off by crashes: 70 bytes that were never acknowledged",
        "note: a note",
        "12 records read in 2.0 s (6 records/s); keys: 0123",
        "fine: no record was changed or removed, up to the last signature of each chain",
    ]


def test_what_is_broken_ends_with_the_first_bad_record(capsys):
    first = Finding("calls-0", 2, 7, "removed", "this record is missing", 9, BEGAN * SECOND, "req-6", True)
    second = Finding("calls-0", 3, 12, "changed", "this record was changed", 0, BEGAN * SECOND)
    print_report(Report([ChainReport("calls-0", 3, 1, findings=[first, second], unsigned=1)]))
    assert capsys.readouterr().out.splitlines() == [
        "calls-0: 0 records, segments 1 to 3, BROKEN",
        "  not signed yet: 1 records, unproven without the private key",
        "0 records read in 0.0 s (); keys: ",
        "removed: calls-0, segment 2, record 7 (behind the one of 2027-01-15T08:00:00.000000Z, request req-6)"
        " (up to 9): this record is missing",
        "changed: calls-0, segment 3, record 12 (2027-01-15T08:00:00.000000Z): this record was changed",
        "BROKEN. The first record in doubt is calls-0, segment 2, record 7"
        " (behind the one of 2027-01-15T08:00:00.000000Z, request req-6)",
    ]


def test_a_record_nobody_could_read():
    found = Finding("calls-0", 2, 7, "forged", "why", 7)
    assert place(found) == "calls-0, segment 2, record 7"
    assert told(found) == "forged: calls-0, segment 2, record 7: why"


def test_records_of_a_segment(tmp_path):
    bench = Bench(tmp_path)
    bench.write([[2], [1, 1]])
    assert list(records(bench.path(2).read_bytes())) == [(3, call(3)), (4, call(4))]
    assert list(records(b"")) == []
    assert list(records(b"\0\0\0\x62\1" + bytes(32) + bytes(64) + b"?")) == []
    data = bench.path(2).read_bytes()
    assert list(records(data[bench.frames(2)[0].end :])) == []
