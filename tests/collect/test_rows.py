from __future__ import annotations

import logging
from datetime import datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.audit.record import Call, Caller, Captured, Operation, Personal, Sealed, Tls, Trace
from gatewayd.collect import rows
from gatewayd.collect.rows import Decoding
from gatewayd.collect.schema import CALLS_COLUMNS
from gatewayd.collect.store import Store

from .spooled import START, call, encode

NAMES = list(CALLS_COLUMNS)


def unsealed(sealed):
    """Stands for `SubjectKeys.open`: what is "sealed" is in the open; nothing in it was erased."""
    return msgspec.msgpack.decode(sealed.text, type=Personal) if sealed.text else None


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    """A connection to a store, as the collector's."""
    store = Store(tmp_path_factory.mktemp("store") / "calls.duckdb")
    with store.cursor() as cursor:
        cursor.execute("SET pandas_analyze_sample = 0")
        yield cursor
    store.close()


def stored(cursor, bodies, first=1):
    """The rows of records, each by column."""
    cursor.begin()
    try:
        decoding = Decoding(unsealed)
        decoding.insert(cursor, "calls-0", decoding.batch(bodies, np.arange(first, first + len(bodies))))
        found = cursor.execute('SELECT * FROM calls ORDER BY "number"').fetchall()
    finally:
        cursor.rollback()
    return [dict(zip(NAMES, row, strict=True)) for row in found]


def test_a_line_is_a_call():
    """The parts that are left undecoded are the same parts."""
    assert rows.Line.__struct_fields__ == Call.__struct_fields__
    assert msgspec.msgpack.decode(encode(call()), type=rows.Line).bytes_out == call().bytes_out


def test_a_whole_call(cursor):
    captured = Captured([(b"accept", b"*/*")], b"body", True)
    made = call(
        START + 0.25,
        request_id=b"abc",
        status=429,
        code="rate_limited",
        reason="timeout",
        verdicts=[("api_key", "admitted"), ("fair", "refused")],
        attempts=2,
        tls=Tls("TLSv1.3", "AES", "ab12"),
        trace=Trace("1" * 32, "2" * 16, "3" * 16, True, "state"),
        personal=None,
        sealed=Sealed(b"s" * 16, encode(Personal("192.0.2.7", "10.0.0.9", [b"\x01", b"\xff\x02"], "curl/8", captured))),
    )
    assert stored(cursor, [encode(made)], 17) == [
        {
            "chain": "calls-0",
            "number": 17,
            "at": datetime(2027, 1, 15, 8, 0, 0, 250_000),
            "request_id": "abc",
            "trace_id": "1" * 32,
            "span_id": "2" * 16,
            "parent_id": "3" * 16,
            "sampled": True,
            "tenant": "north",
            "consumer": "acme",
            "credential": "key-1",
            "auth": "api_key",
            "plan": "gold",
            "route": "quotes",
            "service": "quoting",
            "operation": "/v1/quotes/{id}",
            "method": "GET",
            "listener": "public",
            "host": "api.example",
            "scheme": "https",
            "status": 429,
            "code": "rate_limited",
            "reason": "timeout",
            "verdicts": "api_key:admitted fair:refused",
            "target": "10.0.0.1:9000",
            "attempts": 2,
            "total_us": 1500,
            "upstream_us": 1000,
            "bytes_in": 10,
            "bytes_out": 541,
            "client": "192.0.2.7",
            "peer": "10.0.0.9",
            "agent": "curl/8",
            "values": "01 ff02",
            "tls": "TLSv1.3",
            "fingerprint": "ab12",
            "generation": 3,
            "subject": (b"s" * 16).hex(),
            "captured": encode(captured),
        }
    ]


def test_what_is_not_known_is_empty_and_not_null(cursor):
    bare = call(operation=Operation(), caller=None, verdicts=None, personal=Personal())
    (found,) = stored(cursor, [encode(bare)])
    assert [name for name, value in found.items() if value is None] == ["captured"]
    assert {
        found[name] for name in ("consumer", "route", "tls", "trace_id", "verdicts", "client", "values", "subject")
    } == {""}


def test_what_was_erased_is_null(cursor):
    (found,) = stored(cursor, [encode(call(personal=None, sealed=Sealed(b"s" * 16, b"")))])
    assert [name for name, value in found.items() if value is None] == ["client", "peer", "agent", "values", "captured"]
    assert found["subject"] == (b"s" * 16).hex()


def test_each_row_has_its_own_and_what_it_shares(cursor):
    consumers = ["a", "b", "a", "c", "b"]
    made = [
        call(
            START + number,
            caller=Caller(consumer),
            operation=Operation(f"to-{consumer}"),
            host=b"h%d" % (number % 2),
            personal=Personal(f"10.0.0.{number}"),
        )
        for number, consumer in enumerate(consumers)
    ]
    found = stored(cursor, [encode(each) for each in made], 5)
    shown = [(row["number"], row["consumer"], row["route"], row["host"], row["client"]) for row in found]
    assert shown == [(5 + n, c, f"to-{c}", f"h{n % 2}", f"10.0.0.{n}") for n, c in enumerate(consumers)]


def test_what_is_remembered_serves_the_next_batch():
    decoding = Decoding(unsealed)
    first = decoding.batch([encode(call()), encode(call(caller=Caller("other")))], np.array([1, 2]))
    second = decoding.batch([encode(call(caller=Caller("other")))], np.array([3]))
    assert first.lines["caller_id"].tolist() == [0, 1]
    assert second.lines["caller_id"].tolist() == [1]
    assert len(decoding) == 1 + 2 + 1
    assert decoding.callers.columns(second.lines["caller_id"])["consumer"].tolist() == ["other"]


@pytest.mark.parametrize(
    ("changes", "column", "shown"),
    [
        ({"status": 70_000}, "status", 65_535),
        ({"attempts": 300}, "attempts", 255),
        ({"total": -5}, "total_us", 0),
        ({"host": b"\xff.example"}, "host", "ÿ.example"),
        ({"target": "a\0b"}, "target", "a\0b"),
    ],
)
def test_odd_values_have_a_row_all_the_same(cursor, changes, column, shown):
    assert [row[column] for row in stored(cursor, [encode(call(**changes))])] == [shown]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no record",
        encode([1, 2]),
        encode(call(bytes_in=2**63)),
        encode(call(operation=Operation(generation=2**32))),
        encode((*msgspec.structs.astuple(call())[:2], "no operation", *msgspec.structs.astuple(call())[3:])),
    ],
)
def test_what_cannot_be_read_costs_nobody_else_a_row(cursor, caplog, body):
    decoding = Decoding(unsealed)
    batch = decoding.batch([encode(call()), body, encode(call(status=404))], np.array([4, 5, 6]))
    assert (batch.rows, batch.unreadable) == (2, 1)
    assert [row["status"] for row in stored(cursor, [encode(call()), body, encode(call(status=404))])] == [200, 404]
    assert caplog.record_tuples[0][1:] == (logging.ERROR, "1 records cannot be read and are not collected")


def test_nothing_but_what_cannot_be_read(cursor):
    assert stored(cursor, [b"no record"]) == []


def test_seals_that_cannot_be_opened_now_are_no_unreadable_records():
    def failing(_):
        raise OSError

    with pytest.raises(OSError):
        Decoding(failing).batch([encode(call(sealed=Sealed(b"s", b"t")))], np.array([1]))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(texts, texts, st.binary(max_size=10), st.integers(0, 2**62)), max_size=8))
def test_rows_say_what_records_say(cursor, several):
    made = [
        call(personal=Personal(agent=agent), target=target, host=host, total=total)
        for agent, target, host, total in several
    ]
    found = stored(cursor, [encode(each) for each in made])
    shown = [(row["agent"], row["target"], row["host"].encode("latin-1"), row["total_us"]) for row in found]
    assert shown == several
