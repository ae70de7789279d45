"""Callers that hold connections: idle ones, slow readers, slow senders. One process, told what to do line by line.

    open N | close | count | quit

Each line is answered with one JSON line: open and closed connections and bytes read so far. Connections come from many
addresses of the loopback (127.0.1.1 and on, a few hundred each), so that limits per address stay at their defaults.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time

import click
import orjson

PER_ADDRESS = 400
SLICES = 200
"""A second is cut into so many slices; in each, one in so many connections has its turn."""


def source(index: int) -> str:
    """Address of the loopback that connection `index` comes from."""
    block = index // PER_ADDRESS
    return f"127.0.{1 + block // 250}.{1 + block % 250}"


class Callers:
    """Connections of one kind to one port."""

    def __init__(self, port: int, kind: str, path: str, rate: int) -> None:
        self.port = port
        self.kind = kind
        self.path = path
        self.rate = rate
        self.sockets: list[socket.socket | None] = []
        self.closed = 0
        self.refused = 0
        self.bytes = 0
        self.turn = 0

    def counts(self) -> dict[str, int]:
        """What stands now."""
        held = sum(one is not None for one in self.sockets)
        return {"open": held, "closed": self.closed, "refused": self.refused, "bytes": self.bytes}

    def open(self, number: int) -> None:
        """Open `number` more connections and bring each into its state."""
        for index in range(len(self.sockets), len(self.sockets) + number):
            self.sockets.append(self.connect(index))

    def connect(self, index: int) -> socket.socket | None:
        """One connection in its state: request served, reply begun, or head begun. None if refused."""
        connection = socket.socket()
        try:
            connection.settimeout(10)
            if self.kind == "read":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.bind((source(index), 0))
            connection.connect(("127.0.0.1", self.port))
            connection.sendall(self.begin())
            if self.kind == "idle":
                self.read_reply(connection)
        except OSError:
            self.refused += 1
            connection.close()
            return None
        connection.setblocking(False)
        return connection

    def begin(self) -> bytes:
        """The first bytes of a connection."""
        head = f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: callers\r\n"
        return (head if self.kind == "drip" else head + "\r\n").encode()

    def read_reply(self, connection: socket.socket) -> None:
        """Read one reply with a Content-Length, whole; `OSError` if it is anything but a 200."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                raise ConnectionResetError("closed before a reply")
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise ConnectionResetError(head.partition(b"\r\n")[0].decode("latin-1"))
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        left = int(lengths[0]) - len(body)
        while left > 0:
            if not (more := connection.recv(65536)):
                raise ConnectionResetError("closed within a reply")
            left -= len(more)

    def close(self) -> None:
        """Close them all."""
        for connection in self.sockets:
            if connection is not None:
                connection.close()
        self.sockets.clear()

    def notice_closed(self) -> None:
        """Drop connections that the other side closed meanwhile."""
        for index, connection in enumerate(self.sockets):
            if connection is not None and not self.alive(connection):
                self.closed += 1
                connection.close()
                self.sockets[index] = None

    def take_turn(self) -> None:
        """Let one slice of the connections read or send a little; open those again that were cut off."""
        self.turn = (self.turn + 1) % SLICES
        for index in range(self.turn, len(self.sockets), SLICES):
            connection = self.sockets[index]
            if connection is None:
                self.sockets[index] = self.connect(index)
            elif not self.alive(connection):
                self.closed += 1
                connection.close()
                self.sockets[index] = self.connect(index) if self.kind == "drip" else None

    def alive(self, connection: socket.socket) -> bool:
        """Read up to `rate` bytes; of those that send slowly, send one more. False once the other side closed."""
        try:
            if self.kind == "drip":
                connection.send(b"x")
            data = connection.recv(self.rate)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.bytes += len(data)
        return bool(data) and self.kind != "drip"


def obey(callers: Callers, line: str) -> bool:
    """Carry one order out; False to end."""
    order, _, number = line.strip().partition(" ")
    if order == "open":
        callers.open(int(number))
    elif order == "close":
        callers.close()
    elif order != "count":
        return False
    if callers.kind == "idle":
        callers.notice_closed()
    sys.stdout.write(orjson.dumps(callers.counts()).decode() + "\n")
    sys.stdout.flush()
    return True


def work(callers: Callers) -> None:
    """Obey and take turns until told to end. Idle connections take no turns: they cost nothing while measured."""
    next_turn = time.monotonic()
    while True:
        wait = None if callers.kind == "idle" else max(0.0, next_turn - time.monotonic())
        if select.select([sys.stdin], [], [], wait)[0]:
            if not obey(callers, sys.stdin.readline()):
                return
        elif callers.kind != "idle":
            next_turn += 1 / SLICES
            callers.take_turn()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--kind", type=click.Choice(["idle", "read", "drip"]), required=True)
@click.option("--path", default="/")
@click.option("--rate", type=int, default=2500, help="Bytes a second a reader takes.")
def main(port: int, kind: str, path: str, rate: int) -> None:
    """Hold connections to a port of the loopback."""
    callers = Callers(port, kind, path, rate)
    with contextlib.suppress(KeyboardInterrupt):
        work(callers)
    callers.close()


if __name__ == "__main__":
    main()
