"""Reply heads as bytes, read back by h11."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.wire import replies

_names = st.from_regex(r"\Ax-[a-z0-9]{1,10}\Z").map(str.encode)
_values = st.from_regex(r"\A([!-~]([ -~]{0,20}[!-~])?)?\Z").map(str.encode)


def read(wire: bytes, method: str = "GET") -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, fields and body of a complete reply."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(wire)
    parser.receive_data(b"")
    head = parser.next_event()
    assert isinstance(head, (h11.Response, h11.InformationalResponse))
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += bytes(event.data)
    return head.status_code, [(bytes(name), bytes(value)) for name, value in head.headers], body


@given(st.lists(st.tuples(_names, _values), max_size=5), st.binary(max_size=20))
def test_what_is_written_is_read_back(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    wire = replies.head(200, headers, b"content-length: %d\r\n" % len(body), body)
    length = (b"content-length", b"%d" % len(body))
    assert read(wire) == (200, [*headers, length], body)


@pytest.mark.parametrize("headers", [[], [(b"a", b"b")]])
@pytest.mark.parametrize("framing", [b"", replies.CLOSE, replies.KEEP_ALIVE, replies.CHUNKED, b"content-length: 0\r\n"])
def test_a_head_ends_with_one_empty_line(headers: list[tuple[bytes, bytes]], framing: bytes) -> None:
    wire = replies.head(200, headers, framing)
    assert wire.endswith(b"\r\n\r\n")
    assert wire.count(b"\r\n\r\n") == 1
    assert wire.count(b"\r\n") == 2 + len(headers) + bool(framing)


@pytest.mark.parametrize("status", [100, 200, 299, 404, 418, 431, 511, 599])
def test_every_status_has_its_line(status: int) -> None:
    assert replies.head(status, [], b"").startswith(b"HTTP/1.1 %d " % status)
