from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gatewayd.collect.sinks.file import Sink
from gatewayd.config.sinks import FileSink
from gatewayd.config.units import Duration, Size
from gatewayd.core.clock import FakeClock

from .recorded import ORIGIN, names, opened, put
from .running import Waits, killed_before_the_position, ran


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


@pytest.fixture
def path(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "calls.ndjson"


def sink(path, clock=None, **options):
    options = {"rotate_age": Duration(0)} | options
    return Sink(FileSink(path=str(path), **options), ORIGIN, (clock or FakeClock()).wall)


def records(path):
    """Chains and numbers of the lines of a file."""
    return [(line["chain"], line["number"]) for line in map(json.loads, path.read_text().splitlines())]


def everything(path):
    """Of the file and all that were renamed, oldest first."""
    rotated = sorted(each for each in path.parent.iterdir() if each != path)
    return [record for each in [*rotated, path] for record in records(each)]


def test_one_line_per_call(store, path):
    put(store, 3)
    ran(sink(path), store)
    assert records(path) == names(3)
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["instance"], first["gateway"], first["at"]) == (
        ORIGIN.instance,
        "edge-1",
        "2026-03-01T12:00:00.000001Z",
    )
    assert "client" not in first
    assert path.stat().st_mode & 0o777 == 0o640
    put(store, 2)
    ran(sink(path), store)
    assert records(path) == names(5)


def test_a_batch_that_was_cut_off_is_written_once(store, path, monkeypatch):
    put(store, 3)
    ran(sink(path), store)
    put(store, 4)
    killed_before_the_position(monkeypatch, sink(path), store)
    assert len(records(path)) == 7
    with path.open("a") as file:
        file.write('{"chain": "calls-0", "numb')  # and another that was not written to its end
    put(store, 1)
    ran(sink(path), store)
    assert records(path) == names(8)


def test_the_very_first_batch_cut_off(store, path, monkeypatch):
    put(store, 3)
    killed_before_the_position(monkeypatch, sink(path), store)
    ran(sink(path), store)
    assert records(path) == names(3)


def test_cut_off_while_it_was_renamed_by_somebody(store, path, monkeypatch):
    put(store, 3)
    ran(sink(path), store)
    put(store, 2)
    killed_before_the_position(monkeypatch, sink(path), store)
    path.rename(f"{path}.1")
    path.touch()
    ran(sink(path), store)
    assert everything(path) == names(5)
    assert records(path) == names(2, first=4)


def test_cut_off_between_renaming_and_the_first_line(store, path, monkeypatch):
    put(store, 3)
    ran(sink(path), store)
    put(store, 2)
    killed_before_the_position(monkeypatch, sink(path, rotate_size=Size(1)), store)
    ran(sink(path), store)
    assert everything(path) == names(5)


def test_somebody_elses_file_is_not_cut(store, path, monkeypatch):
    put(store, 3)
    ran(sink(path), store)
    inode = path.stat().st_ino
    text = "x" * 5000
    path.write_text(text)
    assert path.stat().st_ino == inode
    put(store, 1)
    ran(sink(path), store)
    assert path.read_text().splitlines()[0] == text
    assert json.loads(path.read_text().splitlines()[1])["number"] == 4


def test_renamed_while_it_is_written(store, path):
    put(store, 2)

    def rename(count):
        if count == 1:
            path.rename(f"{path}.1")
            put(store, 2)

    ran(sink(path), store, waits=Waits(2, rename))
    assert (records(path), everything(path)) == (names(2, first=3), names(4))


def test_emptied_while_it_is_written(store, path):
    put(store, 2)

    def empty(count):
        if count == 1:
            os.truncate(path, 0)
            put(store, 2)

    ran(sink(path), store, waits=Waits(2, empty))
    assert records(path) == names(2, first=3)


def test_it_is_renamed_before_it_grows_too_large(store, path):
    put(store, 6)
    config = FileSink(path=str(path), rotate_size=Size(1400), batch=1)
    ran(Sink(config, ORIGIN, FakeClock().wall), store, config)
    files = sorted(path.parent.iterdir())
    assert all(each.stat().st_size <= 1400 for each in files)
    assert [each.name for each in files[1:]] == ["calls.ndjson.20270115T080000", "calls.ndjson.20270115T080000-0001"]
    assert everything(path) == names(6)


def test_it_is_renamed_when_it_is_old_restarts_counted_in(store, path):
    clock = FakeClock()
    put(store, 1)
    ran(sink(path, clock, rotate_age=Duration(100)), store)
    clock.advance(60)
    put(store, 1)
    ran(sink(path, clock, rotate_age=Duration(100)), store)
    assert records(path) == names(2)
    clock.advance(60)
    put(store, 1)
    ran(sink(path, clock, rotate_age=Duration(100)), store)
    assert (records(path), everything(path)) == (names(1, first=3), names(3))


def test_only_so_many_are_kept_and_others_files_left_alone(store, path):
    (path.parent / "calls.ndjson.note").write_text("mine")
    config = FileSink(path=str(path), rotate_size=Size(1), batch=1, keep=2)
    put(store, 6)
    clock = FakeClock()
    target = Sink(config, ORIGIN, lambda: (clock.advance(1), clock.wall())[1])
    ran(target, store, config)
    (path.parent / "calls.ndjson.note").unlink()
    assert everything(path) == names(3, first=4)


def test_a_disk_that_takes_no_more(store, path, monkeypatch):
    """A part of a batch was written when the disk was full: it is taken back, and all of it written later."""
    put(store, 5)
    write, full = os.write, [True]

    def failing(descriptor, data):
        if full:
            full.pop()
            write(descriptor, bytes(data[:100]))
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", failing)
    runner = ran(sink(path), store, waits=Waits(2))
    assert (runner.failures, records(path)) == (1, names(5))


def test_a_folder_that_is_not_there_any_more(store, tmp_path):
    put(store, 1)
    runner = ran(sink(tmp_path / "gone" / "x"), store)
    assert (runner.failures, runner.sent) == (1, 0)


def test_without_waiting_for_the_disk(store, path, monkeypatch):
    monkeypatch.setattr(os, "fdatasync", None)
    put(store, 2)
    ran(sink(path, sync="never"), store)
    assert records(path) == names(2)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from gatewayd.collect.sinks.following import Following
from gatewayd.collect.sinks.file import Sink
from gatewayd.collect.sinks.sink import Runner
from gatewayd.collect.store import Store
from gatewayd.config.sinks import FileSink
from gatewayd.config.units import Size
from tests.collect.sinks.recorded import ORIGIN
store, config = Store(Path(sys.argv[1])), FileSink(path=sys.argv[2], batch=7, rotate_size=Size(20_000))
point, left = sys.argv[3], [int(sys.argv[4])]
def counted(function):
    def call(*arguments):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
owner = {"commit": Following, "remember": Following, "write": os, "rename": os}[point]
setattr(owner, point, counted(getattr(owner, point)))
async def wait(_): return True
asyncio.run(Runner("s", config, Sink(config, ORIGIN), lambda: store, wait).run())
"""


@pytest.mark.process
def test_killed_at_any_moment(store, path, tmp_path):
    """SIGKILL at points of all kinds, one run after the other: every call stands there once."""
    put(store, 200)
    store.close()
    for point, count in [("write", 1), ("commit", 2), ("remember", 1), ("rename", 1), ("remember", 2), ("commit", 5)]:
        script = [sys.executable, "-c", KILLED, str(store.path), str(path), point, str(count)]
        assert subprocess.run(script, check=False, timeout=60).returncode == -9
    config = FileSink(path=str(path), batch=7)
    ran(Sink(config, ORIGIN), store, config)
    assert everything(path) == names(200)
