"""Processes are pinned, accounted for and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import REPOSITORY
from benchmarks.processes import (
    Processes,
    StartError,
    busy_ns,
    cpu_ns,
    disk_bytes,
    free_port,
    listens,
    memory,
    move,
    pinned,
    session_pids,
    wait_until,
)
from tests.support.daemon import wait_for

pytestmark = pytest.mark.process
FAMILY = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def family(processes: Processes, tmp_path: Path):
    """A program with a child that ignores SIGTERM."""
    running = processes.start("family", [sys.executable, "-c", FAMILY.format(child=SLEEPER)], log=tmp_path / "log")
    wait_until(lambda: "up" in running.tail(), running)
    return running


def test_a_program_and_all_it_started_are_stopped(tmp_path):
    with Processes() as processes:
        running = family(processes, tmp_path)
        assert len(running.pids()) == 2
        running.stop(timeout=0.2)
        wait_for(lambda: session_pids(running.popen.pid) == [], "killed processes take a moment to go")
        running.stop()


def test_leaving_the_block_stops_everything(tmp_path):
    with pytest.raises(ZeroDivisionError), Processes() as processes:
        running = processes.start("sleeper", ["sleep", "600"], log=tmp_path / "log")
        _ = 1 / 0
    assert running.popen.returncode == -signal.SIGTERM


HOLDER = """
import sys, time
from pathlib import Path
from benchmarks.processes import Processes
with Processes() as processes:
    running = processes.start("sleeper", ["sleep", "600"], log=Path(sys.argv[1]))
    print(running.popen.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_stop_everything(number, tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY, text=True) as one:
        pid = int(one.stdout.readline())
        os.kill(pid, 0)
        one.send_signal(number)
        one.wait(20)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_children_start_on_their_cores(tmp_path):
    core = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    with Processes() as processes:
        running = processes.start("sleeper", ["sleep", "600"], log=tmp_path / "log", cores=[core])
        assert os.sched_getaffinity(running.popen.pid) == {core}
    assert os.sched_getaffinity(0) == before


def test_a_process_is_moved_with_all_its_threads(tmp_path):
    code = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); print('up', flush=True)"
    core = max(os.sched_getaffinity(0))
    with Processes() as processes:
        running = processes.start("threads", [sys.executable, "-c", code], log=tmp_path / "log")
        wait_for(lambda: "up" in running.tail(), "its threads")
        move(running.popen.pid, [core])
        threads = [int(each) for each in os.listdir(f"/proc/{running.popen.pid}/task")]
        assert len(threads) == 2
        assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {frozenset([core])}


def test_pinning_ends_with_the_block():
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), pinned([min(before)]):
        _ = 1 / 0
    assert os.sched_getaffinity(0) == before


def test_a_program_that_ends_is_told_with_its_last_words(tmp_path):
    with Processes() as processes:
        running = processes.start("mute", ["sh", "-c", "echo no such option >&2; exit 3"], log=tmp_path / "log")
        with pytest.raises(StartError, match=r"status 3:\nno such option"):
            wait_until(lambda: False, running)


def test_a_program_that_never_gets_ready_is_told(tmp_path):
    with Processes() as processes:
        running = processes.start("sleeper", ["sleep", "600"], log=tmp_path / "log")
        with pytest.raises(StartError, match="not ready"):
            wait_until(lambda: False, running, seconds=0.01)


def test_cpu_is_that_of_the_process_and_only_grows():
    before, machine = cpu_ns(os.getpid()), busy_ns()
    while cpu_ns(os.getpid()) - before < 20_000_000:
        sum(range(1000))
    assert busy_ns() >= machine
    assert cpu_ns(2**22 + 1) == 0


def test_memory_names_the_processes_that_work(tmp_path):
    """The one that used most CPU is the worker, however large its neighbours are."""
    busy = (
        "x = b'x' * 40_000_000\nfor _ in range(3_000_000): pass\nprint('up', flush=True)\nimport time; time.sleep(600)"
    )
    lazy = "x = b'x' * 90_000_000\nprint('up', flush=True)\nimport time; time.sleep(600)"
    with Processes() as processes:
        started = []
        for name, code in (("busy", busy), ("lazy", lazy)):
            running = processes.start(name, [sys.executable, "-c", code], log=tmp_path / name)
            wait_until(lambda one=running: "up" in one.tail(), running)
            started.append(running)
        found = memory([pid for one in started for pid in one.pids()], workers=1)
    assert 40_000_000 < found.worker < 90_000_000
    assert found.tree_rss > 130_000_000
    assert found.tree_pss <= found.tree_rss


def test_unlinked_files_count_as_disk(tmp_path):
    before = disk_bytes([os.getpid()])
    with (tmp_path / "spool").open("wb") as spool:
        spool.write(b"x" * 5000)
        spool.flush()
        os.unlink(spool.name)
        assert disk_bytes([os.getpid()]) - before == 5000


def test_nobody_listens_on_a_free_port():
    assert not listens(free_port())
