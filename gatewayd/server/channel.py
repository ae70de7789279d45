"""The channel between the supervisor and a process it started: calls, replies and sockets over a socketpair.

A frame is length, number of sockets, number of the call and its kind, then a msgpack body; the sockets travel
beside the frame's first bytes (SCM_RIGHTS, unix(7)). Frames have no size limit: a document of 100,000 routes
is one frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from gatewayd.core.tasks import spawn
from gatewayd.errors import ConfigError, Fault, GatewaydError


class Apply(msgspec.Struct, tag=True, frozen=True):
    """To a worker: serve `document` (its raw form as msgpack). `slots` says which row of the metrics is which route's,
    `secret` keys TLS session tickets, the same in all workers.
    """

    generation: int
    document: bytes
    slots: dict[str, int]
    secret: bytes

    def __repr__(self) -> str:
        return f"Apply(generation={self.generation})"  # a document holds secrets, too


class Listen(msgspec.Struct, tag=True, frozen=True):
    """To a worker: accept on exactly these sockets. `listeners` says how many of them are whose, in order.

    `shared`: another daemon holds them too (an upgrade is under way), so they are not to be closed to callers.
    """

    listeners: list[tuple[str, int]]
    shared: bool = False


class Drain(msgspec.Struct, tag=True, frozen=True):
    """To a worker: stop accepting, serve what is open, then exit. Seconds."""

    timeout: float
    idle_grace: float


class ReopenLogs(msgspec.Struct, tag=True, frozen=True):
    """To a worker: open the access log anew."""


class Status(msgspec.Struct, tag=True, frozen=True):
    """To a worker or, from the control process, to the supervisor: how are you? Answered with JSON."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From the control process to the supervisor: the short question. Answered with JSON."""


class Observe(msgspec.Struct, tag=True, frozen=True):
    """To the control process: its configured address, which row of the metrics is which route's, and the document
    that is served (its raw form as msgpack).
    """

    address: str
    slots: dict[str, int]
    document: bytes = b"\x80"  # an empty one

    def __repr__(self) -> str:
        return f"Observe(address={self.address!r})"  # a document holds secrets


class Reload(msgspec.Struct, tag=True, frozen=True):
    """From the control process to the supervisor: load the configuration again. `actor` asked for it."""

    actor: str = ""


class TakeOver(msgspec.Struct, tag=True, frozen=True):
    """From a new supervisor to the one it replaces: my workers serve, drain yours."""


class Tell(msgspec.Struct, tag=True, frozen=True):
    """To every worker, through the supervisor if the control process says it: what concerns whoever hears `topic`.

    A worker answers with a JSON list of what they said, the supervisor with that of all workers. Where something is
    changed by it, `actor` asked for that.
    """

    topic: str
    body: bytes
    actor: str = ""

    def __repr__(self) -> str:
        return f"Tell(topic={self.topic!r})"  # a body may hold secrets


class Done(msgspec.Struct, tag=True, frozen=True):
    """The call succeeded; `body` is what it was asked for."""

    body: bytes = b""


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The call was refused for these faults."""

    faults: list[Fault]


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The call broke for a reason no configuration names."""

    text: str


AnyMessage = (
    Apply | Listen | Drain | ReopenLogs | Status | Ready | Observe | Reload | TakeOver | Tell | Done | Refused | Failed
)
Serve = Callable[[AnyMessage, list[socket.socket]], Awaitable[bytes | None]]
"""Answers one call: returns the body of `Done`, raises `ConfigError` for `Refused`."""


class ChannelError(GatewaydError):
    """The other end failed; the text says how."""


class ChannelClosed(ChannelError):
    """The other end is gone."""

    def __init__(self) -> None:
        super().__init__("the other end is gone")


_log = logging.getLogger(__name__)
_HEAD = struct.Struct("!IHIB")
_CALL, _REPLY = 0, 1
_READ = 256 * 1024
_SOCKETS_AT_ONCE = 250  # the kernel takes 253 (SCM_MAX_FD)
_ANCILLARY = socket.CMSG_SPACE(253 * 4)


class Channel:
    """One end. Calls made here are answered by the other end's `serve`, and the other way round, at any time.

    `serve` runs as a task per call, started in the order of the calls. `closed` is called once, when the
    other end is gone; calls then outstanding raise `ChannelClosed`.
    """

    def __init__(self, sock: socket.socket, serve: Serve, closed: Callable[[], None] = lambda: None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._serve = serve
        self._closed = closed
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)
        self._in = bytearray()
        self._in_sockets: deque[int] = deque()
        self._out: deque[tuple[memoryview, list[int]]] = deque()
        self._calls: dict[int, asyncio.Future[AnyMessage]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        self._open = True

    async def call(self, message: AnyMessage, sockets: Sequence[socket.socket] = ()) -> bytes:
        """Say `message` and wait for the reply. Raises `ConfigError` if it was refused, else `ChannelError`."""
        if not self._open:
            raise ChannelClosed
        self._number += 1
        number = self._number
        reply = self._calls[number] = self._loop.create_future()
        try:
            self._send(number, _CALL, message, sockets)
            return _unwrap(await reply)
        finally:
            self._calls.pop(number, None)

    def close(self) -> None:
        """Hang up. Nothing is called for it, outstanding calls raise `ChannelError`."""
        self._closed = lambda: None
        self._lose()

    def _send(self, number: int, kind: int, message: AnyMessage, sockets: Sequence[socket.socket] = ()) -> None:
        body = self._encoder.encode(message)
        frame = memoryview(_HEAD.pack(len(body), len(sockets), number, kind) + body)
        # Copies, because the caller may close its own before the frame is out.
        self._out.append((frame, [os.dup(sock.fileno()) for sock in sockets]))
        if len(self._out) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._out:
            frame, sockets = self._out[0]
            try:
                sent = self._send_some(frame, sockets)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                # What the other end said before it left is still to be read; its end shows there.
                self._drop_out()
                return
            if sent < len(frame):
                self._out[0] = (frame[sent:], sockets)
            else:
                self._out.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _send_some(self, frame: memoryview, sockets: list[int]) -> int:
        if not sockets:
            return self._sock.send(frame)
        batch = sockets[:_SOCKETS_AT_ONCE]
        sent = socket.send_fds(self._sock, [frame[:1]], batch)
        del sockets[: len(batch)]
        _close_all(batch)
        return sent

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(content) - len(content) % 4
                self._in_sockets.extend(struct.unpack(f"{whole // 4}i", content[:whole]))
        if not data:
            self._lose()
            return
        self._in += data
        self._take_frames()

    def _take_frames(self) -> None:
        start = 0
        while len(self._in) - start >= _HEAD.size:
            length, count, number, kind = _HEAD.unpack_from(self._in, start)
            end = start + _HEAD.size + length
            if len(self._in) < end:
                break
            with memoryview(self._in) as view:
                message = self._decoder.decode(view[start + _HEAD.size : end])
            start = end
            sockets = [socket.socket(fileno=self._in_sockets.popleft()) for _ in range(count)]
            self._take(number, kind, message, sockets)
        del self._in[:start]

    def _take(self, number: int, kind: int, message: AnyMessage, sockets: list[socket.socket]) -> None:
        if kind == _CALL:
            spawn(self._answer(number, message, sockets), f"channel {type(message).__name__}")
            return
        reply = self._calls.pop(number, None)
        if reply is not None and not reply.done():
            reply.set_result(message)

    async def _answer(self, number: int, message: AnyMessage, sockets: list[socket.socket]) -> None:
        reply: AnyMessage
        try:
            reply = Done(await self._serve(message, sockets) or b"")
        except ConfigError as error:
            reply = Refused(list(error.faults))
        except Exception as error:
            _log.exception("%s failed", type(message).__name__)
            reply = Failed(f"{type(error).__name__}: {error}")
        if self._open:
            self._send(number, _REPLY, reply)

    def _lose(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._drop_out()
        self._sock.close()
        _close_all(self._in_sockets)
        for reply in self._calls.values():
            if not reply.done():
                reply.set_exception(ChannelClosed())
        self._closed()

    def _drop_out(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        for _, sockets in self._out:
            _close_all(sockets)
        self._out.clear()


def _unwrap(reply: AnyMessage) -> bytes:
    match reply:
        case Done(body):
            return body
        case Refused(faults):
            raise ConfigError(faults)
        case Failed(text):
            raise ChannelError(text)
        case _:
            raise ChannelError(f"a {type(reply).__name__} is no reply")


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
