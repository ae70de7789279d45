"""A scripted upstream: threads and blocking sockets, so that it does exactly what its script says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
WAIT = 20.0


class Peer:
    """One connection to the scripted upstream: what it received stands in `received`."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number  # from 0, in the order of connecting
        self.received = b""
        self._at = 0

    def read_head(self) -> bytes:
        """The next request's head, its empty line included; b"" if the other side closed instead."""
        while b"\r\n\r\n" not in self.received[self._at :]:
            if not self._more():
                return b""
        end = self.received.index(b"\r\n\r\n", self._at) + 4
        head, self._at = self.received[self._at : end], end
        return head

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer if the other side closed."""
        while len(self.received) - self._at < count and self._more():
            pass
        data = self.received[self._at : self._at + count]
        self._at += len(data)
        return data

    def read_until(self, end: bytes) -> bytes:
        """Bytes up to and with `end`."""
        while end not in self.received[self._at :] and self._more():
            pass
        at = self.received.index(end, self._at) + len(end)
        data, self._at = self.received[self._at : at], at
        return data

    def read_to_end(self) -> bytes:
        """Everything until the other side closes."""
        while self._more():
            pass
        data, self._at = self.received[self._at :], len(self.received)
        return data

    def send(self, data: bytes) -> None:
        """Send; a closed connection is not an error of the script."""
        try:
            self.sock.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        """Close now."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except OSError:
            return False
        self.received += data
        return bool(data)


def answer(reply: bytes = OK) -> Callable[[Peer], None]:
    """A script that answers every request (without a body) with `reply`."""

    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.send(reply)

    return script


class ScriptedUpstream:
    """Listens on a free port of 127.0.0.1 and runs `script` for each connection, in a thread of its own."""

    def __init__(self, script: Callable[[Peer], None] | None = None) -> None:
        self.script = script or answer()
        self.peers: list[Peer] = []
        self.errors: list[BaseException] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()

    @property
    def received(self) -> bytes:
        """Everything received, connection after connection."""
        return b"".join(peer.received for peer in self.peers)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()`, looked at whenever a script ends, a peer connects, or a moment passed."""
        with self._changed:
            for _ in range(int(WAIT / 0.02)):
                if condition():
                    return
                self._changed.wait(0.02)
        raise AssertionError("the condition did not come true")

    def __enter__(self) -> ScriptedUpstream:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
            peer.sock.close()
        for thread in self._threads:
            thread.join(WAIT)
        if self.errors and error is None:
            raise self.errors[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            peer = Peer(sock, len(self.peers))
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            with self._changed:
                self.peers.append(peer)
                thread.start()
                self._threads.append(thread)
                self._changed.notify_all()

    def _serve(self, peer: Peer) -> None:
        try:
            self.script(peer)
        except BaseException as error:
            self.errors.append(error)
        finally:
            peer.sock.close()
            with self._changed:
                self._changed.notify_all()
