"""Judges of forwarded bytes: a strict reading of their own, h11, and llhttp. And the upstream that records them."""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

import h11
import httptools

Fields = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# the invariant, line by line: what may leave the gateway is narrower than RFC 9112's grammar
_START = re.compile(rb"([A-Z]{3,32}) ((?:/[!-\"$-\[\]-~]*)|\*) HTTP/1\.1")
_FIELD = re.compile(rb"(" + _TOKEN + rb"): ([^\x00-\x08\x0a-\x1f\x7f]*)")
_CHUNK = re.compile(rb"[0-9a-f]{1,8}")


@dataclass
class Message:
    """A request as somebody reads it. Names are in lower case."""

    method: bytes = b""
    target: bytes = b""
    headers: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for found, value in self.headers if found == name]


class Flaw(AssertionError):
    """Forwarded bytes break the invariant."""


class StrictReader:
    """Reads requests as the gateway is to write them, from a function that gives `count` bytes, or a line."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self.raw = b""  # of the present message

    def message(self) -> Message | None:
        """The next one, None at the end of the connection; raises `Flaw`, and `EOFError` within a message."""
        self.raw = b""
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        message = read_head(head)
        if message.values(b"transfer-encoding"):
            self._chunks(message)
        else:
            message.body = self._take(int((message.values(b"content-length") or [b"0"])[0]))
        return message

    def _chunks(self, message: Message) -> None:
        while True:
            line = self._line()
            if not _CHUNK.fullmatch(line):
                raise Flaw(f"chunk size {line!r}")
            size = int(line, 16)
            if not size:
                break
            message.body += self._take(size)
            if self._take(2) != b"\r\n":
                raise Flaw("a chunk does not end with its size")
        while line := self._line():
            message.trailers.append(_read_field(line))

    def _line(self) -> bytes:
        line = self._until(b"\r\n")
        if line is None:
            raise EOFError
        return line[:-2]

    def _until(self, end: bytes) -> bytes | None:
        while end not in self._buffer:
            if not self._more():
                if self._buffer:
                    raise EOFError
                return None
        return self._take(self._buffer.index(end) + len(end))

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not self._more():
                raise EOFError
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        self.raw += data
        return data

    def _more(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except OSError:
            return False
        self._buffer += data
        return bool(data)


def read_head(head: bytes) -> Message:
    """A forwarded head, its empty line included; raises `Flaw` unless it keeps the invariant."""
    start, *lines = head[:-4].split(b"\r\n")
    match = _START.fullmatch(start)
    if match is None:
        raise Flaw(f"request line {start!r}")
    message = Message(match[1], match[2], [_read_field(line) for line in lines])
    hosts = message.values(b"host")
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if len(hosts) != 1 or not hosts[0]:
        raise Flaw(f"hosts {hosts}")
    if len(lengths) + len(codings) > 1:
        raise Flaw(f"framed by {lengths} and {codings}")
    if codings not in ([], [b"chunked"]) or not all(re.fullmatch(rb"0|[1-9][0-9]*", each) for each in lengths):
        raise Flaw(f"framed by {lengths} and {codings}")
    return message


def _read_field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.fullmatch(line)
    if match is None or match[2] != match[2].strip(b" \t") or match[1] != match[1].lower():
        raise Flaw(f"field line {line!r}")
    return match[1], match[2]


class Recorder:
    """An upstream that reads strictly, keeps what it read, and answers 200 with the message's number.

    `messages[n]` answers to the reply with `x-message: n`; `flaws` is what broke the invariant.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[Message, bytes]] = []
        self.flaws: list[str] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Recorder:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        reader = StrictReader(sock)
        with sock:
            try:
                while (message := reader.message()) is not None:
                    sock.sendall(self._keep(message, reader.raw))
            except EOFError:
                return  # broken off: the target can tell
            except (Flaw, OSError) as error:
                self.flaws.append(f"{error!r} in {reader.raw!r}")

    def _keep(self, message: Message, raw: bytes) -> bytes:
        with self._lock:
            number = len(self.messages)
            self.messages.append((message, raw))
        length = b"0" if message.method == b"HEAD" else b"2"
        body = b"" if message.method == b"HEAD" else b"ok"
        return b"HTTP/1.1 200 OK\r\nx-message: %d\r\ncontent-length: %b\r\n\r\n%b" % (number, length, body)


def read_by_h11(wire: bytes) -> list[Message]:
    """The complete requests that h11, as a server, finds in `wire` until it finds fault with it."""
    found: list[Message] = []
    while wire:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
        parser.receive_data(wire)
        wire = b""
        while (message := _next_by_h11(parser)) is not None:
            found.append(message)
            if parser.their_state is h11.MUST_CLOSE:
                if parser.their_http_version == b"1.0" and b"keep-alive" in message.values(b"connection"):
                    wire = parser.trailing_data[0]  # h11 knows no keep-alive in HTTP/1.0
                break
            parser.send(h11.Response(status_code=405, headers=[("content-length", "0")]))
            parser.send(h11.EndOfMessage())
            if parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
                break
            parser.start_next_cycle()
    return found


def _next_by_h11(parser: h11.Connection) -> Message | None:
    message = Message()
    while True:
        try:
            event: Any = parser.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Request):
            message = Message(event.method, event.target, [(bytes(n), bytes(v)) for n, v in event.headers])
        elif isinstance(event, h11.Data):
            message.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            message.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
            return message
        else:
            return None


class _Llhttp:
    def __init__(self) -> None:
        self.found: list[Message] = []
        self.message = Message()
        self.in_body = False
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.message, self.in_body = Message(), False

    def on_url(self, url: bytes) -> None:
        self.message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self.message.trailers if self.in_body else self.message.headers
        fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.message.method, self.in_body = self.parser.get_method(), True

    def on_body(self, data: bytes) -> None:
        self.message.body += data

    def on_message_complete(self) -> None:
        self.found.append(self.message)


def read_by_llhttp(wire: bytes) -> list[Message]:
    """The complete requests that llhttp finds in `wire` until it finds fault with it."""
    found: list[Message] = []
    while wire:
        reader = _Llhttp()
        try:
            reader.parser.feed_data(wire)
            wire = b""
        except httptools.HttpParserUpgrade as upgrade:
            wire = wire[upgrade.args[0] :]
        except httptools.HttpParserError:
            wire = b""
        found += reader.found
    return found
