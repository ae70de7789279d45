"""Where log lines go: a file, or a standard stream that may stall. Writing never waits for a reader.

Several workers write to the same place, so what is written at once ends with a line: appends to a file are one write
each (O_APPEND, write(2)), and pipes, terminals and sockets get pieces of `PIPE_BUF` at most, which are never
interleaved (pipe(7)). Only a single line longer than that can be, in a pipe.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
from typing import Protocol

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE = select.PIPE_BUF
STANDARD = {"stdout": 1, "stderr": 2}


class Sink(Protocol):
    """A place for lines."""

    def write(self, lines: bytes | bytearray) -> int:
        """Write what goes without waiting; how many bytes are dealt with. Raises `OSError` if the place is broken."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_sink(path: str) -> Sink:
    """The sink of `access_log.path`: `stdout`, `stderr` or a file, made if there is none. Raises `OSError`."""
    standard = STANDARD.get(path)
    if standard is not None:
        return _open_standard(standard)
    descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o640)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return FileSink(descriptor)
    return StreamSink(descriptor)


def _open_standard(descriptor: int) -> Sink:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return SocketSink(os.dup(descriptor))
    if stat.S_ISREG(mode):
        # Not opened anew: whoever else writes to this redirection shares its offset.
        return FileSink(os.dup(descriptor))
    try:
        # Opened anew, because O_NONBLOCK on a shared description would surprise everyone who has it.
        return StreamSink(os.open(f"/proc/self/fd/{descriptor}", _FLAGS & ~os.O_APPEND))
    except OSError:  # another user's pipe or terminal
        return ThreadSink(os.dup(descriptor))


class FileSink:
    """A regular file. A line torn by a full disk is completed later, or begun anew if others wrote meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._torn = 0  # bytes of the next line that are written already
        self._torn_at = 0  # the file's size then

    def write(self, lines: bytes | bytearray) -> int:
        """One write. Part of a line is not dealt with until all of it is."""
        torn = self._torn
        if torn and os.fstat(self._descriptor).st_size != self._torn_at:
            if not os.write(self._descriptor, b"\n"):
                return 0
            torn = 0
        with memoryview(lines) as view:
            written = torn + os.write(self._descriptor, view[torn:])
        whole = written if written == len(lines) else lines.rfind(b"\n", 0, written) + 1
        self._torn = written - whole
        if self._torn:
            self._torn_at = os.fstat(self._descriptor).st_size
        return whole

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class StreamSink:
    """A pipe, a terminal or a device, non-blocking."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, lines: bytes | bytearray) -> int:
        """Pieces of whole lines until the reader has enough."""
        done = 0
        with memoryview(lines) as view:
            while done < len(lines):
                end = _cut(lines, done)
                try:
                    done += os.write(self._descriptor, view[done:end])
                except BlockingIOError:
                    break
        return done

    def close(self) -> None:
        """Close the stream."""
        os.close(self._descriptor)


class SocketSink:
    """A stream socket, such as the one systemd hands over for the journal."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def write(self, lines: bytes | bytearray) -> int:
        """Pieces of whole lines until the reader has enough."""
        done = 0
        with memoryview(lines) as view:
            while done < len(lines):
                end = _cut(lines, done)
                try:
                    done += self._socket.send(view[done:end], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    break
        return done

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class ThreadSink:
    """A stream that cannot be opened anew, nor be made non-blocking without harm to others: a thread waits for it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines = b""
        self._error: OSError | None = None
        self._ready = threading.Semaphore(0)
        self._closing = False
        threading.Thread(target=self._run, name="access log", daemon=True).start()

    def write(self, lines: bytes | bytearray) -> int:
        """Hand a piece to the thread, if it is done with the one before."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._lines:
            return 0
        end = _cut(lines, 0)
        self._lines = bytes(lines[:end])
        self._ready.release()
        return end

    def close(self) -> None:
        """Let the thread end, once it has written what it has."""
        self._closing = True
        self._ready.release()

    def _run(self) -> None:
        while True:
            self._ready.acquire()
            try:
                while self._lines:
                    self._lines = self._lines[os.write(self._descriptor, self._lines) :]
            except OSError as error:
                self._error, self._lines = error, b""
            if self._closing:
                os.close(self._descriptor)
                return


def _cut(lines: bytes | bytearray, start: int) -> int:
    """End of the piece at `start`: as many whole lines as fit, or one that does not."""
    if len(lines) - start <= _PIECE:
        return len(lines)
    return (lines.rfind(b"\n", start, start + _PIECE) + 1) or (lines.find(b"\n", start) + 1) or len(lines)
