"""How many workers there are."""

from __future__ import annotations

import os

import pytest

from gatewayd.config.model import decode
from gatewayd.core import workers as module
from gatewayd.core.workers import MAX_WORKERS, columns, worker_count


@pytest.mark.parametrize(
    ("cpu_max", "cores", "workers"),
    [
        ("max 100000", 3, 3),
        ("150000 100000", 8, 2),
        ("50000 100000", 8, 1),
        ("max 100000", 500, MAX_WORKERS),
        ("", 2, 2),
    ],
)
def test_as_many_workers_as_cores(monkeypatch, cpu_max, cores, workers):
    files = {"/proc/self/cgroup": "9:cpu:/old\n0::/system.slice/gatewayd.service\n"}
    files["/sys/fs/cgroup/system.slice/gatewayd.service/cpu.max"] = cpu_max
    monkeypatch.setattr(module.Path, "read_text", lambda path, encoding: files[str(path)])
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert worker_count(decode({})) == workers
    assert worker_count(decode({"gateway": {"workers": 5}})) == 5


def test_without_control_groups(monkeypatch):
    def gone(path, encoding):
        raise FileNotFoundError

    monkeypatch.setattr(module.Path, "read_text", gone)
    assert worker_count(decode({})) == min(len(os.sched_getaffinity(0)), MAX_WORKERS)


@pytest.mark.parametrize(("workers", "cells"), [(1, 8), (4, 8), (5, 16), (8, 16), (64, 128)])
def test_a_row_has_room_for_those_that_drain(workers, cells):
    assert columns(decode({"gateway": {"workers": workers}})) == cells
