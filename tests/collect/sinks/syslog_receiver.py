"""Receivers of syslog messages in tests: over streams with octet counting, TLS included, and over datagrams."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from typing import Any, NamedTuple

HEADER = re.compile(r"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S+) (\S+) (\S+) (\S+) ", re.ASCII)
"""RFC 5424 §6: HEADER and the space behind it."""
PARAMETER = re.compile(r' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"', re.ASCII)
"""RFC 5424 §6.3: SD-PARAM."""


class Message(NamedTuple):
    """A message, read strictly by RFC 5424."""

    priority: int
    time: str
    host: str
    app: str
    kind: str
    data_id: str
    data: dict[str, str]
    text: str

    @property
    def record(self) -> tuple[str, int]:
        """Chain and number."""
        return self.data["chain"], int(self.data["number"])


def read(message: bytes) -> Message:
    """The message. Raises `AssertionError` if it is none."""
    text = message.decode()
    header = HEADER.match(text)
    assert header is not None, text
    priority, time, host, app, _, kind = header.groups()
    rest = text[header.end() :]
    opening = re.match(r"\[([!#-<>-\\^-~]{1,32})", rest)
    assert opening is not None, rest
    data, at = {}, opening.end()
    while (found := PARAMETER.match(rest, at)) is not None:
        data[found[1]] = re.sub(r"\\(.)", r"\1", found[2])
        at = found.end()
    assert rest[at : at + 2] == "] ", rest[at:]
    return Message(int(priority), time, host, app, kind, opening[1], data, rest[at + 2 :])


class Stream:
    """A receiver on a free port, or a path. `script(receiver, writer)` may do something after each piece it reads."""

    def __init__(self, path: str = "", context: ssl.SSLContext | None = None, script: Any = None) -> None:
        self.taken: list[bytearray] = []
        """Bytes of each connection."""
        self._path, self._context = path, context
        self._script = script or (lambda receiver, writer: None)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    @property
    def address(self) -> str:
        """For a sink's `address`."""
        return f"unix:{self._path}" if self._path else f"127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[Message]:
        """What it took (RFC 6587 §3.4.1); frames that were cut off are left out."""
        found = []
        for taken in map(bytes, self.taken):
            at = 0
            while (space := taken.find(b" ", at)) >= 0:
                at = space + 1 + int(taken[at:space])
                if at <= len(taken):
                    found.append(read(taken[space + 1 : at]))
        return found

    async def __aenter__(self) -> Stream:
        if self._path:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        taken = bytearray()
        self.taken.append(taken)
        try:
            while data := await reader.read(1 << 16):
                taken += data
                self._script(self, writer)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()


class Datagrams:
    """A socket that holds what is sent to it."""

    def __init__(self, path: str = "") -> None:
        self._sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.bind(path or ("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.address = f"unix:{path}" if path else f"127.0.0.1:{self._sock.getsockname()[1]}"

    def close(self) -> None:
        """From now on nobody is there."""
        self._sock.close()

    def messages(self) -> list[Message]:
        """What came since."""
        found = []
        while True:
            try:
                found.append(read(self._sock.recv(1 << 16)))
            except BlockingIOError:
                return found
