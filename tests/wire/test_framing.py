from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.wire import framing
from gatewayd.wire.framing import ChunkedReader, FramingError, LengthReader, chunk, last_chunk


def read(data: bytes, pieces: int = 1) -> tuple[bytes, ChunkedReader]:
    reader = ChunkedReader()
    body = b""
    size = max(1, len(data) // pieces)
    for at in range(0, len(data), size):
        body += reader.feed(data[at : at + size])
        if reader.done:
            reader.rest += data[at + size :]
            break
    return body, reader


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 400), st.binary(max_size=20))
def test_what_is_written_in_chunks_is_read_back_however_it_is_cut(
    bodies: list[bytes], pieces: int, rest: bytes
) -> None:
    wire = b"".join(map(chunk, bodies)) + last_chunk([])
    body, reader = read(wire + rest, pieces)
    assert body == b"".join(bodies)
    assert reader.done
    assert reader.rest == rest


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
def test_h11_reads_what_is_written(bodies: list[bytes]) -> None:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    parser.receive_data(b"".join(map(chunk, bodies)) + last_chunk([(b"x-sum", b"1")]))
    parser.next_event()
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert body == b"".join(bodies)
    assert list(event.headers) == [(b"x-sum", b"1")]


@pytest.mark.parametrize(
    "wire",
    [
        b"5 \r\nhello\r\n0\r\n\r\n",  # white space behind the size
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;a b\r\nhello\r\n0\r\n\r\n",  # junk in an extension
        b"5;a=\x00\r\nhello\r\n0\r\n\r\n",  # NUL in an extension
        b'5;a="x\r\nhello\r\n0\r\n\r\n',
        b"5\nhello\r\n0\r\n\r\n",  # bare LF
        b"5\r\nhelloX\r\n0\r\n\r\n",  # longer than its size
        b"5\r\nhello\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"1000000000000000\r\nhello",  # 16 digits
        b"-1\r\nhello\r\n0\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\n: 1\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX: \x01\r\n\r\n",
        b"0\r\n X: 1\r\n\r\n",
        b"5;" + b"a" * framing.MAX_LINE + b"\r\nhello\r\n0\r\n\r\n",
        b"0\r\n" + b"X: " + b"a" * framing.MAX_TRAILERS + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("pieces", [1, 1000])
def test_what_two_readers_could_take_differently_is_refused(wire: bytes, pieces: int) -> None:
    with pytest.raises(FramingError):
        read(wire, pieces)


@pytest.mark.parametrize(
    "wire", [b"5;a\r\nhello\r\n0\r\n\r\n", b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n', b"05\r\nhello\r\n00\r\n\r\n"]
)
def test_extensions_are_read_and_dropped(wire: bytes) -> None:
    assert read(wire)[0] == b"hello"


def test_extensions_cannot_be_sent_for_ever() -> None:
    line = b"1;" + b"a" * 200 + b"\r\nx\r\n"
    with pytest.raises(FramingError):
        read(line * (framing.MAX_EXTENSIONS // 200 + 1))


def test_extensions_of_a_long_body_may_add_up() -> None:
    """Such as a signature for each chunk: they are few beside what they sign."""
    line = b"400;chunk-signature=" + b"a" * 64 + b"\r\n" + bytes(1024) + b"\r\n"
    body, reader = read(line * 1000 + b"0\r\n\r\n")
    assert len(body) == 1024 * 1000
    assert reader.done


def test_trailers_are_kept_apart_and_only_harmless_ones() -> None:
    wire = b"0\r\nX-Sum: 1 \r\nContent-Length: 5\r\nHost: b\r\nX_Sum: 2\r\nAuthorization: c\r\n\r\n"
    _, reader = read(wire)
    assert reader.trailers == [(b"x-sum", b"1")]


@given(st.binary(max_size=100), st.integers(0, 100), st.integers(1, 50))
def test_a_length_is_counted_off_however_it_is_cut(data: bytes, length: int, step: int) -> None:
    length = min(length, len(data)) or 1
    data = data or b"x"
    reader = LengthReader(length)
    body = b""
    at = 0
    while not reader.done:
        body += reader.feed(data[at : at + step])
        at += step
    assert body == data[:length]
    assert body + reader.rest == data[:at]
    assert reader.remaining == 0
