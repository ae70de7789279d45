"""The upstream on uvloop."""

from __future__ import annotations

import socket
import sys
import urllib.request

import pytest

from benchmarks.machine import REPOSITORY
from benchmarks.processes import Processes, free_port, listens, wait_until
from benchmarks.upstream import DOCUMENT


def test_the_document_is_as_long_as_its_name_says():
    import json

    assert len(DOCUMENT) == 541
    assert json.loads(DOCUMENT)["policy"]


@pytest.mark.process
def test_it_counts_what_it_got_rid_of_and_waits_for_slow_readers(tmp_path):
    size, port = 50_000_000, free_port()
    with Processes() as processes, socket.socket() as reader:
        argv = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port)]
        running = processes.start("upstream", argv, log=tmp_path / "log", cwd=REPOSITORY)
        wait_until(lambda: listens(port), running)

        def sent() -> int:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/sent", timeout=10) as reply:
                return int(reply.read())

        assert sent() == 0
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", port))
        reader.sendall(b"GET /huge/%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        wait_until(lambda: sent() > 0, running)
        assert sent() < size / 2
        head, _, body = reader.recv(65536).partition(b"\r\n\r\n")
        assert b"Content-Length: 50000000" in head
        received = len(body)
        while received < size:
            received += len(reader.recv(1 << 20))
        assert sent() == size
