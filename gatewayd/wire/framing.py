"""Bodies' framing: the chunked coding read strictly (RFC 9112 §7.1) and written plainly.

What two readers could take differently is refused: white space around a chunk size, extensions that are not
`;name[=value]`, a bare LF, sizes beyond 15 hexadecimal digits, trailers that are no header fields.
"""

from __future__ import annotations

import re

from gatewayd.core.exchange import Headers
from gatewayd.rfc.headers import FORBIDDEN_TRAILERS, is_withheld

LAST_CHUNK = b"0\r\n\r\n"
MAX_LINE = 256
"""Longest chunk-size line with its extensions (bytes); nothing in use is near it."""
MAX_EXTENSIONS = 16 * 1024
"""Extension bytes read beyond as many as the chunks have: they are dropped, so one could send them for ever with tiny
chunks. Real ones, such as signatures of chunks of 64 KiB, are far from it, however long the body is."""
MAX_TRAILERS = 16 * 1024
"""Longest trailer section (bytes)."""

# chunk-size [ chunk-ext ] of RFC 9112 §7.1, without the "bad" white space that §7.1.1 tolerates
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t !-~\x80-\xff])*"'
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)")
# field-line of RFC 9112 §5, without obs-fold
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t -~\x80-\xff]*)")


class FramingError(Exception):
    """The body is not framed as it should be; the connection's bytes have lost their meaning."""


def chunk(data: bytes) -> bytes:
    """`data` (never empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % field for field in trailers])


class LengthReader:
    """Counts a body whose length was announced (RFC 9112 §6.2); the same interface as `ChunkedReader`."""

    __slots__ = ("done", "remaining", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self.done = False
        self.rest = b""
        self.trailers: Headers = []
        self.remaining = length  # bytes still to come

    def feed(self, data: bytes) -> bytes:
        """Body bytes in `data`. Not to be called once `done`."""
        left = self.remaining - len(data)
        if left <= 0:
            self.done = True
            if left:
                data, self.rest = data[:left], data[left:]
                left = 0
        self.remaining = left
        return data


class ChunkedReader:
    """Takes the chunked coding off a body, piece by piece.

    `feed` returns the body bytes found; `done` says the body is complete, `rest` then holds what followed it and
    `trailers` its trailer fields (those that may be forwarded, RFC 9110 §6.5.1).
    """

    __slots__ = ("_extensions", "_line", "_remaining", "_state", "_trailer_bytes", "done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: Headers = []
        self._line = b""  # a line whose end has not come yet
        self._remaining = 0  # bytes of the chunk not seen yet
        self._state = _SIZE
        self._extensions = 0
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Body bytes in `data`; raises `FramingError`. Not to be called once `done`."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._state == _DATA:
                piece = data[at : at + self._remaining]
                pieces.append(piece)
                at += len(piece)
                self._remaining -= len(piece)
                if not self._remaining:
                    self._state = _DATA_END
            else:
                at = self._take_line(data, at)
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        limit = MAX_TRAILERS if self._state == _TRAILER else MAX_LINE
        if (end if end >= 0 else len(data)) - at + len(self._line) > limit:
            raise FramingError("a line of the chunked body is too long")
        if end < 0:
            self._line += data[at:]
            return len(data)
        line = self._line + data[at:end]
        self._line = b""
        if line[-1:] != b"\r":
            raise FramingError("a line of the chunked body does not end in CRLF")
        self._line_complete(line[:-1])
        return end + 1

    def _line_complete(self, line: bytes) -> None:
        if self._state == _SIZE:
            self._size_line(line)
        elif self._state == _DATA_END:
            if line:
                raise FramingError("a chunk is longer than its size")
            self._state = _SIZE
        elif line:
            self._trailer_line(line)
        else:
            self.done = True

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise FramingError("a chunk size is malformed")
        self._remaining = int(match[1], 16)
        self._extensions = max(self._extensions + len(match[2]) - self._remaining, 0)
        if self._extensions > MAX_EXTENSIONS:
            raise FramingError("too many chunk extensions")
        self._state = _DATA if self._remaining else _TRAILER

    def _trailer_line(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        match = _FIELD_LINE.fullmatch(line)
        if match is None or self._trailer_bytes > MAX_TRAILERS:
            raise FramingError("a trailer field is malformed or the trailers are too long")
        name = match[1].lower()
        if name not in FORBIDDEN_TRAILERS and not is_withheld(name):
            self.trailers.append((name, match[2].rstrip(b" \t")))


_SIZE, _DATA, _DATA_END, _TRAILER = range(4)

BodyReader = LengthReader | ChunkedReader
