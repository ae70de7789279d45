"""The call record as bytes."""

from __future__ import annotations

import msgspec
import pytest

from gatewayd.audit.record import Call, Caller, Captured, Operation, Personal, Sealed, Tls, Trace, decode_call

CALL = Call(
    1_800_000_000_000_000_000,
    b"id",
    Operation("r", "s", "/v1/{id}", ["id"], 7),
    Caller("anna", "key-1", "api_key", "gold", "north"),
    b"GET",
    200,
    "",
    "",
    [("pace", "observed")],
    "127.0.0.1:9000",
    2,
    1500,
    900,
    0,
    541,
    "http",
    b"https",
    b"api.example.com",
    b"1.1",
    Tls("TLSv1.3", "TLS_AES_128_GCM_SHA256", "ab"),
    Trace("0" * 31 + "1", "0" * 15 + "2", "", True),
    Personal("192.0.2.1", "", [b"12345678"], "curl", Captured([(b"a", b"b")], b"body")),
    Sealed(b"s" * 16, b"text"),
)


def test_a_record_is_read_as_it_was_written():
    assert decode_call(msgspec.msgpack.encode(CALL)) == CALL


def test_records_of_a_version_with_more_fields_are_read():
    longer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(CALL)), "new"]
    assert decode_call(msgspec.msgpack.encode(longer)) == CALL


@pytest.mark.parametrize("data", [b"", b"\x90", b"\xc0", msgspec.msgpack.encode(CALL)[:-1]])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(msgspec.DecodeError):
        decode_call(data)
