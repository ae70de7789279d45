"""Files, pipes, sockets and terminals as places for lines, whole and stalled."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.observe import log_sink
from gatewayd.observe.log_sink import FileSink, Sink, SocketSink, StreamSink, ThreadSink, open_sink

PIPE_BUF = 4096


def lines(count: int, length: int = 100) -> bytes:
    return b"".join(b"%06d".ljust(length - 1, b".") % i + b"\n" for i in range(count))


@contextlib.contextmanager
def standard_output(descriptor: int) -> Iterator[None]:
    """Let file descriptor 1 be another for a while."""
    saved = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_a_file_is_appended_to_and_others_may_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for text in (b"one\n", b"two\n"):
        sink = open_sink(str(path))
        assert isinstance(sink, FileSink)
        assert sink.write(text) == 4
        sink.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_a_file_that_cannot_be_opened_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_sink(str(tmp_path / "none" / "access.log"))
    with pytest.raises(IsADirectoryError):
        open_sink(str(tmp_path))


def test_a_redirected_stream_shares_its_offset(tmp_path: Path) -> None:
    """`gatewayd run > file`: the daemon's own messages and the log must not overwrite each other."""
    path = tmp_path / "out"
    with path.open("wb") as file, standard_output(file.fileno()):
        sink = open_sink("stdout")
        os.write(1, b"message\n")
        sink.write(b"line\n")
        os.write(1, b"message\n")
        sink.close()
    assert path.read_bytes() == b"message\nline\nmessage\n"


def stalled(sink: Sink) -> bytes:
    """Write until the reader has enough; what was taken."""
    data = lines(40_000)
    taken = sink.write(data)
    assert 0 < taken < len(data)
    assert sink.write(data[taken:]) == 0
    return data[:taken]


def test_a_stalled_pipe_takes_what_fits_and_others_stay_blocking(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with standard_output(writer):
        sink = open_sink("stdout")
        assert isinstance(sink, StreamSink)
        taken = stalled(sink)
        assert not fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK
    assert taken.endswith(b"\n")
    assert os.read(reader, 1 << 20) == taken
    assert sink.write(b"again\n") == 6
    assert os.read(reader, 100) == b"again\n"
    sink.close()


def test_a_stalled_socket_takes_what_fits() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with standard_output(ours.fileno()):
            sink = open_sink("stdout")
            assert isinstance(sink, SocketSink)
            taken = stalled(sink)
        received = b""
        while len(received) < len(taken):
            received += theirs.recv(1 << 20)
        assert received == taken
        theirs.close()
        with pytest.raises(BrokenPipeError):
            sink.write(b"again\n")
        sink.close()


def test_a_stalled_terminal_takes_what_fits() -> None:
    leader, follower = pty.openpty()
    try:
        with standard_output(follower):
            sink = open_sink("stdout")
            assert isinstance(sink, StreamSink)
            stalled(sink)
        sink.close()
    finally:
        os.close(leader)
        os.close(follower)


def test_a_stream_that_cannot_be_opened_anew_gets_a_thread(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = pipe
    opened = os.open

    def refuse(path: str, *rest: int) -> int:
        if path.startswith("/proc/self/fd/"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest)

    monkeypatch.setattr(log_sink.os, "open", refuse)
    with standard_output(writer):
        sink = open_sink("stdout")
    assert isinstance(sink, ThreadSink)
    sink.close()


def taken_by(thread: ThreadSink, data: bytes) -> None:
    """Hand over all of `data`, however often the thread is busy."""
    done = 0
    while done < len(data):
        done += thread.write(data[done:])


def test_a_thread_waits_where_the_worker_must_not(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = ThreadSink(os.dup(writer))
    data = lines(100)
    taken_by(sink, data)
    received = b""
    while len(received) < len(data):
        received += os.read(reader, 1 << 16)
    assert received == data
    capacity = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.write(writer, bytes(capacity))
    assert 0 < sink.write(data) <= PIPE_BUF
    assert sink.write(data) == 0  # the thread waits for the reader; this did not
    threads = [each for each in threading.enumerate() if each.name == "access log"]
    sink.close()
    os.read(reader, capacity)
    for each in threads:
        each.join(5)
        assert not each.is_alive()


def test_what_befell_the_thread_is_raised_later(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = ThreadSink(os.dup(writer))
    os.close(reader)
    assert sink.write(b"line\n") == 5
    with pytest.raises(BrokenPipeError):
        taken_by(sink, b"line\n" * 1_000_000)
    sink.close()


def test_lines_of_several_writers_are_never_mixed_in_a_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with standard_output(writer):
        sinks = [open_sink("stdout") for _ in range(3)]
    os.close(writer)
    texts = [lines(3000, 90 + number).replace(b".", b"%d" % number) for number in range(3)]

    def write(sink: Sink, text: bytes) -> None:
        done = 0
        while done < len(text):
            done += sink.write(text[done:])
        sink.close()

    threads = [threading.Thread(target=write, args=pair) for pair in zip(sinks, texts, strict=True)]
    for each in threads:
        each.start()
    received = b""
    while data := os.read(reader, 1 << 16):
        received += data
    for each in threads:
        each.join(5)
    assert sorted(received.splitlines()) == sorted(b"".join(texts).splitlines())


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        (b"short\n", 0, 6),
        (b"a" * 4095 + b"\n", 0, 4096),
        (b"a\n" * 3000, 0, 4096),
        (b"a\n" * 3000, 4096, 6000),
        (b"bbb\n" * 1500, 2, 4096),
        (b"a" * 5000 + b"\nb\n", 0, 5001),
        (b"a" * 5000, 0, 5000),
        (b"a" * 4094 + b"\nbb\n", 0, 4095),
    ],
)
def test_pieces_end_with_a_line(text: bytes, start: int, end: int) -> None:
    assert log_sink._cut(text, start) == end


# -- a disk that is full --------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("mount is not installed")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run([umount, "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(56 * 1024))
    return ballast


def test_a_torn_line_is_completed_when_there_is_room(disk: Path) -> None:
    ballast = fill(disk)
    path = disk / "access.log"
    sink = open_sink(str(path))
    data = lines(300, 97)
    taken = sink.write(data)
    assert 0 < taken < len(data)
    assert data[:taken].endswith(b"\n")
    assert path.stat().st_size > taken  # part of a line stands there
    with pytest.raises(OSError, match="No space"):
        sink.write(data[taken:])
    ballast.unlink()
    assert sink.write(data[taken:]) == len(data) - taken
    sink.close()
    assert path.read_bytes() == data


def test_a_torn_line_is_begun_anew_if_others_wrote_behind_it(disk: Path) -> None:
    ballast = fill(disk)
    path = disk / "access.log"
    sink, other = open_sink(str(path)), open_sink(str(path))
    data = lines(300, 97)
    taken = sink.write(data)
    ballast.unlink()
    assert other.write(b"other\n") == 6
    assert sink.write(data[taken:]) == len(data) - taken
    written = path.read_bytes().splitlines()
    for sound in data.splitlines():
        assert sound in written
    # What stood there already and the other's line share one; nothing else is harmed.
    harmed = [line for line in written if line and line not in data.splitlines()]
    assert len(harmed) == 1
    assert harmed[0].endswith(b"other")
    sink.close()
    other.close()
