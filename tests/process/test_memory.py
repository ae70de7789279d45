"""What a worker's memory grows by: with bodies of any size, with slow readers, with routes, with idle connections."""

from __future__ import annotations

import resource
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.support.daemon import FULL, Daemon, pace, proportional, proxied, resident, wait_for
from tests.support.echo import EchoUpstream
from tests.support.load import Load
from tests.support.raw import Caller

pytestmark = pytest.mark.process

MIB = 1024 * 1024
BODY = 5 * 1024 * MIB if FULL else 512 * MIB
READERS, FILE, SECONDS, PACE = 100, 20_000_000, 4, 2_500
ROUTES = 1_000
IDLE = 8_000
PIECE = bytes(256 * 1024)


@pytest.fixture
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


def start(upstream, **more):
    """A daemon with one worker, without limits that are not what is looked at here."""
    limits = {"body": 0, "connections_per_address": 10_000}
    return Daemon({**proxied(upstream.address), "gateway": {"workers": 1}, "limits": limits, **more})


class Watched:
    """The one worker of a daemon; memory counts from the moment it has served a few requests."""

    def __init__(self, daemon):
        (self.pid,) = daemon.workers()
        with Load(daemon.port(), keep_alive=4, fresh=4) as load:
            load.reach(1_000)
        self.before = self.peak = resident(self.pid)

    def look(self):
        """Take note of what it has now."""
        self.peak = max(self.peak, resident(self.pid))

    @property
    def growth(self):
        """Bytes it grew by at most."""
        self.look()
        return self.peak - self.before

    def written(self):
        """Bytes that it had written to a disk (proc(5): `io`)."""
        text = Path(f"/proc/{self.pid}/io").read_text()
        return int(text.partition("\nwrite_bytes: ")[2].split()[0])


class Up(threading.Thread):
    """Sends a body of zeros, then reads the reply into `answer`. `sent`: bytes so far."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.caller = Caller(port)
        self.sent = 0
        self.answer = None

    def run(self):
        self.caller.send(b"POST /held HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n" % BODY)
        while self.sent < BODY:
            select.select([], [self.caller.sock], [])
            self.sent += self.caller.sock.send(PIECE[: BODY - self.sent])
        self.answer = self.caller.answer("POST")


class Down(threading.Thread):
    """Asks for zeros, but reads only once `go` is set. `received`: bytes so far, the head not counted."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.caller = Caller(port)
        self.go = threading.Event()
        self.received = 0

    def run(self):
        self.caller.send(b"GET /zeros/%d HTTP/1.1\r\nhost: test\r\n\r\n" % BODY)
        self.go.wait()
        head, _, first = self.caller.sock.recv(65536).partition(b"\r\n\r\n")
        assert b"content-length: %d" % BODY in head
        self.received = len(first)
        buffer = bytearray(len(PIECE))
        while self.received < BODY:
            self.received += self.caller.sock.recv_into(buffer)


def settled(number):
    """The value of `number()` once it has not changed for half a second: what only a pause can do to a stream."""
    last, since = number(), time.monotonic()
    while time.monotonic() - since < 0.5:
        pace(0.02)
        now = number()
        if now != last:
            last, since = now, time.monotonic()
    return last


def taken(sock: socket.socket, count: int) -> bytes:
    """The next `count` bytes; a head and what follows it need not come in one piece."""
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


@pytest.mark.timeout(600)
def test_bodies_of_any_size_take_no_memory(upstream):
    with start(upstream) as daemon:
        worker = Watched(daemon)
        up, down = Up(daemon.port()), Down(daemon.port())
        up.start()
        down.start()
        assert settled(lambda: up.sent) < BODY // 4  # the target reads nothing: so the caller is paused
        assert 0 < settled(lambda: upstream.counts()["given"]) < BODY // 4  # the caller reads nothing: so is the target
        worker.look()
        with Caller(upstream.port) as releasing:
            releasing.ask("/release")
        down.go.set()
        while up.is_alive() or down.is_alive():
            up.join(0.02)
            worker.look()
        assert (up.answer.status, up.answer.body) == (200, b"%d" % BODY)
        assert down.received == BODY
        print(f"two bodies of {BODY // MIB} MiB: the worker grew by {worker.growth / MIB:.1f} MiB")
        up.caller.sock.close()
        down.caller.sock.close()
        assert worker.growth < 20 * MIB


def test_many_slow_readers_take_little_memory_and_no_disk(upstream):
    with start(upstream) as daemon:
        worker = Watched(daemon)
        written = worker.written()
        readers = [Caller(daemon.port()) for _ in range(READERS)]
        for reader in readers:
            reader.send(b"GET /zeros/%d HTTP/1.1\r\nhost: test\r\n\r\n" % FILE)
        for _ in range(SECONDS):
            for reader in readers:
                assert len(taken(reader.sock, PACE)) == PACE
            worker.look()
            pace(1)
        given = settled(lambda: upstream.counts()["given"])
        print(f"{READERS} slow readers: {given / MIB:.0f} MiB sent, the worker grew by {worker.growth / MIB:.1f} MiB")
        assert given < READERS * FILE  # what the kernel buffers, and no more: the target is paused
        assert worker.growth <= 30 * MIB
        assert worker.written() - written < MIB
        for reader in readers:
            reader.sock.close()
        wait_for(lambda: daemon.metric("gatewayd_connections_open") == 0, "their connections to be gone")


def test_a_thousand_routes_fit_in_a_small_worker(upstream):
    document = proxied(upstream.address)
    for number in range(ROUTES):
        document["routes"][f"route-{number}"] = {"path": f"/v1/thing-{number}/{{id}}/part", "service": "up"}
    with Daemon({**document, "gateway": {"workers": 2}}) as daemon:
        with Load(daemon.port(), keep_alive=4, fresh=4) as load:
            load.reach(2_000)
        for pid in daemon.workers():
            shared = f"{proportional(pid) / MIB:.1f} MiB with what is shared divided up"
            print(f"{ROUTES} routes: {resident(pid) / MIB:.1f} MiB resident, {shared}")
            assert resident(pid) <= 45 * MIB


@pytest.fixture
def many_files():
    """This process may have as many files open as it takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 500:
        pytest.skip(f"no more than {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_idle_connections_take_four_kilobytes_each(upstream):
    with start(upstream) as daemon:
        worker = Watched(daemon)
        held = []
        where = ("127.0.0.1", daemon.port())
        for _ in range(IDLE):
            sock = socket.create_connection(where, timeout=20)
            sock.sendall(b"GET /echo/token HTTP/1.1\r\nhost: test\r\n\r\n")
            assert sock.recv(65536).endswith(b"\r\n\r\ntoken")
            held.append(sock)
        assert daemon.status()["workers"][0]["edge"]["connections"] == IDLE
        each = worker.growth / IDLE
        print(f"{IDLE} idle connections: {each / 1024:.2f} KiB each")
        for sock in held:
            sock.close()
    assert each <= 4 * 1024
