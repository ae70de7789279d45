"""Raw clients: bytes out, bytes in, and a strict reading of replies by h11."""

from __future__ import annotations

import socket
from typing import NamedTuple

import h11

WAIT = 20.0


class Answer(NamedTuple):
    """A reply as h11 reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem code, "" if it is no problem document, or none came with it (HEAD)."""
        import orjson

        if self.headers.get("content-type") != "application/problem+json" or not self.body:
            return ""
        return str(orjson.loads(self.body)["code"])


class Caller:
    """One connection to 127.0.0.1:`port`."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self._parser = h11.Connection(h11.CLIENT)
        self.closed = False

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.sock.sendall(data)

    def ask(self, path: str = "/", *headers: str, method: str = "GET") -> Answer:
        """Send a request without a body and read its reply."""
        lines = [f"{method} {path} HTTP/1.1", "host: test", *headers, "", ""]
        self.send("\r\n".join(lines).encode())
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """The next final reply; raises `h11.RemoteProtocolError` if it is broken off or malformed."""
        rest = self._parser.trailing_data[0]
        self._parser = parser = h11.Connection(h11.CLIENT)
        if rest:
            parser.receive_data(rest)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "test")]))
        parser.send(h11.EndOfMessage())
        status, headers, body = 0, {}, b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = self.sock.recv(65536)
                parser.receive_data(data)
                self.closed = not data
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, body)
            elif isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("closed before a reply")

    def to_end(self) -> bytes:
        """Raw bytes until the other side closes (or resets)."""
        data = b""
        while True:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                return data
            if not more:
                return data
            data += more


def leave(caller: Caller) -> None:
    """Go away for good: closing alone might mean that the caller only has nothing more to send."""
    caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    caller.sock.close()


def exchange(port: int, request: bytes) -> bytes:
    """Send `request`, half-close, and return everything that came back."""
    with Caller(port) as caller:
        caller.send(request)
        caller.sock.shutdown(socket.SHUT_WR)
        return caller.to_end()
