"""Hostile requests for hypothesis: odd heads, framings, targets and bodies, put together and then damaged."""

from __future__ import annotations

from hypothesis import strategies as st

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

_sound_starts = st.sampled_from(
    [b"GET /a HTTP/1.1", b"POST /b?c=d HTTP/1.1", b"PUT /e/f HTTP/1.1", b"DELETE /g HTTP/1.0", b"HEAD /h HTTP/1.1"]
)
_methods = st.sampled_from(
    b"GET POST PUT DELETE HEAD OPTIONS PATCH TRACE CONNECT QUERY PROPFIND get G(T FOO PRI \x00GET".split()
)
_targets = st.one_of(
    st.sampled_from(
        [b"/", b"/a", b"/a/../b", b"/%2e%2e/a", b"//a//b", b"/a;b", b"/%00", b"/a#b", b"/a\\b", b"/a?b=%00", b"/a?b#c",
         b"*", b"a:80", b"http://a/", b"http://b/", b"http://a:80/x?y", b"HTTP://A/x", b"http://a", b"http://a?x",
         b"http://u@a/", b"/a?<>[]^`{|}\"", b"/<>[]^`{|}\"", b"/%c3%a9", b"/%7e", b"/a\x80", b"/a b", b"/a\tb", b"",
         b"/..", b"/.", b"/a/.", b"/?", b"/a?", b"/%", b"/%2", b"/a%2fb", b"?a", b"//a@b/c", b"/a:b@c,d;", b"/http://b/"]
    ),
    st.binary(max_size=6).map(b"/".__add__),
)  # fmt: skip
_versions = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"", b"HTTP/1.01"]
)
_odd_starts = st.tuples(_methods, _targets, st.one_of(st.just(b"HTTP/1.1"), _versions)).map(b" ".join)

_framings = st.sampled_from(
    [b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 11", b"Content-Length: %d" % len(SMUGGLED),
     b"Content-Length: %d" % len(b"0\r\n\r\n" + SMUGGLED), b"Content-Length: 005",
     b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: 5,6", b"Content-Length:", b"Content-Length: 0x5",
     b"Content-Length: 5 ", b"Content-Length:5", b"Content-Length : 5", b"Content-Length: -1", b"Content_Length: 5",
     b"content-length: 5", b"CONTENT-LENGTH: 6", b"Content-Length: 99999999999999999999", b"Content-Length:\t5",
     b"Content-Length: 5\x00", b"Content-Length: \xb5", b"X: y\r\n Content-Length: 5", b"Content-Length:\r\n 5",
     b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"Transfer-Encoding:chunked",
     b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity",
     b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked ",
     b"Transfer-Encoding:\tchunked", b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: chunked\x00",
     b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked",
     b"Transfer-Encoding:\r\n chunked", b"Transfer_Encoding: chunked", b"Transfer-Encoding:", b"Transfer-Encoding: ,",
     b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"X\nTransfer-Encoding: chunked", b"TE: chunked",
     b"X: y\rTransfer-Encoding: chunked", b"Transfer-Encoding\x00: chunked", b"Transfer-Encoding: chunk\xc0\xb0ed"]
)  # fmt: skip
_fields = st.sampled_from(
    [b"Accept: */*", b"X-A: b", b"X-A:b", b"X-A: \t b \t", b"X-A:", b"x-a: \xe4", b"X_A: b", b"X-Empty: ",
     b"Cookie: a=b", b"Connection: close", b"Connection: keep-alive", b"Connection: X-A", b"Connection: x-a, close",
     b"Connection: X-A\r\nX-A: b", b"X-A: b\r\nConnection: keep-alive, x-a", b"Connection: X-A\r\nx-a:c\r\nX-B: d",
     b"Connection: Content-Length", b"Connection: Transfer-Encoding", b"Connection: host", b"Connection: ,",
     b"Connection: upgrade\r\nUpgrade: websocket", b"Connection: Upgrade\r\nUpgrade: h2c", b"Upgrade: websocket",
     b"Expect: 100-continue", b"Expect: x", b"Host: a", b"Host: b", b"Host : a", b"Via: 1.1 x", b"Forwarded: for=x",
     b"X-Forwarded-For: x", b"Proxy-Authorization: x", b"Trailer: x-sum", b"Range: bytes=0-1", b" folded", b"\tfolded",
     b"no colon", b": no name", b"X A: b", b"X\x80: b", b"X-A: b\x00", b"X-A: b\x01", b"X-A: b\x7f", b"X-A: a\nX-B: b",
     b"X-A: a\rX-B: b", b"X" * 300 + b": y", b"X-L: " + b"y" * 300, b"!#$%&'*+-.^`|~: t"]
)  # fmt: skip
_hosts = st.sampled_from(
    [b"Host: a", b"Host: a", b"Host: a", b"host: A:80", b"Host: [::1]:8080", b"Host: u@a", b"Host: a/b", b"Host:",
     b"Host: a, b", b"Host: a b", b"X-No-Host: a", b"Host: a\r\nHost: a", b"Host: a.", b"Host: a\x00", b"Host: 127.1"]
)  # fmt: skip

_sizes = st.sampled_from(
    [b"5", b"05", b"0000000000005", b"0x5", b"+5", b"-5", b"5 ", b" 5", b"5;a", b"5;a=b", b'5;a="b"', b"5; a", b"5;",
     b"6", b"4", b"5;\x00", b"5;a\nb", b"5;a\rb", b"5\x00", b"5,5", b"FFFFFFFFFFFFFFFFF5", b"", b"5\r",
     b"g", b"5;\xe4", b"5\t"]
)  # fmt: skip
_ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b""])
_whole = st.just(b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED))
_chunks = _whole | st.tuples(st.one_of(st.just(b"5"), _sizes), _ends, st.just(b"hello"), _ends).map(b"".join)
_lasts = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0\n\n", b"00\r\n\r\n",
     b"0\r\nX : 1\r\n\r\n", b"0\r\n x\r\n\r\n", b"0;x\r\n\r\n", b"0\r\n\n", b"-0\r\n\r\n", b"0\r\nX: 1\nY: 2\r\n\r\n",
     b"", b"0\r\nHost: b\r\nX_A: 1\r\nX-Consumer-Id: 1\r\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0\r\n" + SMUGGLED]
)  # fmt: skip
_chunked_bodies = st.tuples(st.lists(_chunks, max_size=2).map(b"".join), _lasts).map(b"".join)
_bodies = st.one_of(
    st.sampled_from([b"", b"hello", b"hello world", SMUGGLED, b"0\r\n\r\n" + SMUGGLED, b"hello" + SMUGGLED]),
    _chunked_bodies,
)

_sound = st.sampled_from(
    [SMUGGLED, b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
     b"POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     b"GET /s HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", b"\r\n" + SMUGGLED,
     b"HEAD /s HTTP/1.1\r\nHost: b\r\n\r\n"]
)  # fmt: skip
_odd = st.builds(
    lambda start, host, framings, fields, body: b"\r\n".join([start, host, *framings, *fields, b"", body]),
    st.one_of(_sound_starts, _odd_starts),
    st.one_of(st.just(b"Host: a"), _hosts),
    st.lists(_framings, max_size=2),
    st.lists(_fields, max_size=3),
    _bodies,
)

_scraps = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"\x0b", b"\x0c", b"\x85", b"\xa0",
     b"\x7f", b"0", b"5", b"a", b"\r\n ", b"\n\n", b"Host: b\r\n", b"Content-Length: 5\r\n",
     b"Transfer-Encoding: chunked\r\n"]
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, wires: st.SearchStrategy[bytes]) -> bytes:
    """Wires of which a few bytes are replaced, removed or doubled."""
    wire = draw(wires)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(wire)))
        end = draw(st.integers(at, min(at + 8, len(wire))))
        new = draw(st.one_of(_scraps, st.just(b""), st.just(wire[at:end] * 2), st.binary(max_size=2)))
        wire = wire[:at] + new + wire[end:]
    return wire


def hostile() -> st.SearchStrategy[bytes]:
    """What a caller sends over one connection: a request or several, odd, sound and damaged ones."""
    one = st.one_of(_odd, damaged(_odd), damaged(_sound))
    return st.lists(st.one_of(one, _sound), min_size=1, max_size=3).map(b"".join)


def cuts(wire: bytes) -> st.SearchStrategy[list[int]]:
    """Where a wire is cut into pieces that are sent one by one."""
    return st.lists(st.integers(1, max(1, len(wire) - 1)), max_size=3, unique=True).map(sorted)
