"""Messages to a syslog receiver: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587 by octet counting), TLS (RFC 5425) and
unix sockets (`udp`: datagrams, as /dev/log; `tcp`: a stream).

Syslog has no acknowledgements. Over TCP a batch counts as sent once the receiver's kernel has acknowledged all of it
and the connection still stands; otherwise all of it is sent again. So every message comes at least once, but for what a
receiver that dies has not read yet. Over UDP a message comes once or never.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from gatewayd.collect.sinks.fields import Origin, chosen, expressions
from gatewayd.collect.sinks.following import Batch
from gatewayd.collect.sinks.sink import Blocking, Memory, RefusedError, SinkError
from gatewayd.config import address as addresses
from gatewayd.config.sinks import SyslogSink

MOMENT = """strftime("at", '%Y-%m-%dT%H:%M:%S.%fZ')"""
_IDENTITY = ("instance", "gateway", "chain", "number")
_SAID = ("method", "operation", "status")
_FACILITIES: Final = {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10} | {f"local{n}": 16 + n for n in range(8)}
"""RFC 5424 §6.2.1."""
_ERROR, _WARNING, _NOTICE, _INFORMATIONAL = 3, 4, 5, 6
_CONTROLS = (*range(32), 127)
_ESCAPES = dict.fromkeys(_CONTROLS, "\N{REPLACEMENT CHARACTER}") | {ord(sign): f"\\{sign}" for sign in '"\\]'}
"""RFC 5424 §6.3.3; control characters are no use to anybody."""
_SPECIAL = frozenset(map(chr, _ESCAPES))
_BREATH = 64
"""Datagrams sent in a row before others get their turn."""
_LOOK_AGAIN = 0.005
"""Seconds between two looks at what the receiver has acknowledged."""


class Sink:
    """Holds one connection, or one socket."""

    repeatable: ClassVar[bool] = False

    def __init__(self, config: SyslogSink, origin: Origin) -> None:
        self._config = config
        self._origin = origin
        self._chosen = chosen(config)
        self._names = (*_IDENTITY, *(name for name in self._chosen if name != "captured"))
        self._address = addresses.parse(config.address)
        self._socket: socket.socket | None = None
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        facility = _FACILITIES[config.facility] * 8
        host = config.hostname or socket.gethostname() or "-"
        self._starts = {
            severity: f"<{facility + severity}>1 " for severity in (_ERROR, _WARNING, _NOTICE, _INFORMATIONAL)
        }
        self._middle = f" {host} {config.app_name} - call [{config.data_id}"

    def columns(self) -> list[str]:
        """Status, time, and each field of the structured data."""
        return ["status", MOMENT, *expressions(self._names, self._origin)]

    async def open(self, memory: Memory, blocking: Blocking) -> None:
        try:
            async with asyncio.timeout(float(self._config.timeout)):
                if self._config.transport == "udp":
                    self._socket = await self._datagrams()
                else:
                    self._stream = await self._connect(blocking)
        except TimeoutError:
            raise SinkError("it does not answer in time") from None

    async def send(self, batch: Batch) -> Mapping[str, int]:
        messages = [self.message(row) for row in batch.rows]
        if any(len(message) > self._config.max_message for message in messages):
            raise RefusedError("a message that is too long")
        try:
            async with asyncio.timeout(float(self._config.timeout)):
                if self._stream is not None:
                    await self._write(*self._stream, messages)
                else:
                    await self._shoot(messages)
        except TimeoutError:
            raise SinkError("it does not take messages in time") from None
        return {}

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[1].transport.abort()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def message(self, row: Sequence[Any]) -> bytes:
        """A call as a message, without framing."""
        values = {
            name: _text(value) for name, value in zip(self._names, row[2:], strict=False) if value not in (None, "")
        }
        said = " ".join(values[name] for name in _SAID if name in values) or "call"
        start = f"{self._starts[severity(row[0])]}{row[1]}{self._middle}"
        while True:
            data = "".join([f' {name}="{_escaped(value)}"' for name, value in values.items()])
            message = f"{start}{data}] {said}".encode()
            if len(message) <= self._config.max_message or not _cut(values):
                return message

    async def _datagrams(self) -> socket.socket:
        family, address = await self._resolved()
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _resolved(self) -> tuple[int, Any]:
        if self._address.path:
            return socket.AF_UNIX, self._address.path
        found = await asyncio.get_running_loop().getaddrinfo(
            self._address.host, self._address.port, type=socket.SOCK_DGRAM
        )
        return found[0][0], found[0][4]

    async def _connect(self, blocking: Blocking) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.path:
            return await asyncio.open_unix_connection(self._address.path)
        if self._config.transport == "tcp":
            return await asyncio.open_connection(self._address.host, self._address.port)
        context = await blocking(self._context)
        name = self._config.server_name or self._address.host
        return await asyncio.open_connection(self._address.host, self._address.port, ssl=context, server_hostname=name)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._config.ca or None)
        if self._config.cert:
            context.load_cert_chain(self._config.cert, self._config.key or None)
        return context

    async def _write(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, messages: list[bytes]) -> None:
        """All of it, and wait until the other side's kernel has it."""
        writer.write(b"".join([b"%d %b" % (len(message), message) for message in messages]))
        await writer.drain()
        while _unacknowledged(writer) and not reader.at_eof():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_LOOK_AGAIN)
        if reader.at_eof() or writer.is_closing():
            raise SinkError("the receiver closed the connection")

    async def _shoot(self, messages: list[bytes]) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        for count, message in enumerate(messages, 1):
            try:
                await loop.sock_sendall(self._socket, message)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise RefusedError("a message that is too long for a datagram") from None
                raise
            if count % _BREATH == 0:
                await asyncio.sleep(0)


def severity(status: int) -> int:
    """Of a call with this status (RFC 5424 §6.2.1): `err` if it failed, `warning` if it was refused."""
    if status >= 500:
        return _ERROR
    if status == 499:
        return _NOTICE
    return _WARNING if status >= 400 else _INFORMATIONAL


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _escaped(text: str) -> str:
    return text if _SPECIAL.isdisjoint(text) else text.translate(_ESCAPES)


def _cut(values: dict[str, str]) -> bool:
    """Make the longest value half as long; whether one was left."""
    name = max((name for name in values if name not in _IDENTITY), key=lambda name: len(values[name]), default="")
    if not name:
        return False
    values[name] = values[name][: len(values[name]) // 2]
    if not values[name]:
        del values[name]
    return True


def _unacknowledged(writer: asyncio.StreamWriter) -> int:
    """Bytes that the transport holds, or the kernel while the other side's has not acknowledged them (tcp(7))."""
    held: int = writer.transport.get_write_buffer_size()
    sock = writer.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return 0
    with contextlib.suppress(OSError):
        held += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return held
