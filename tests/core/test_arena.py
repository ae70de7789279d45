"""Regions are found by name, by every process alike."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from gatewayd.core.arena import ENTRIES, Arena, ArenaFull
from tests.support.forked import forked

SMALL = 1 << 22


def test_a_name_is_a_region_and_a_region_stays():
    arena = Arena(size=SMALL)
    arena.region("a", 100)[:3] = b"abc"
    assert arena.region("b", 100)[:3] == b"\0\0\0"
    assert arena.region("a", 100)[:3] == b"abc"
    assert arena.region("a", 200)[:3] == b"\0\0\0"


def test_regions_do_not_overlap():
    arena = Arena(size=SMALL)
    regions = [arena.region(str(size), size) for size in (1, 4096, 4097, 10)]
    for number, region in enumerate(regions, 1):
        region[:] = bytes([number]) * len(region)
    for number, region in enumerate(regions, 1):
        assert set(region.tobytes()) == {number}


def test_two_processes_see_one_region():
    descriptor = os.memfd_create("test")
    arena = Arena(descriptor, SMALL)
    arena.region("first", 10)

    def write() -> None:
        Arena(descriptor, SMALL).region("shared", 8)[:2] = b"hi"

    assert os.waitpid(forked(write), 0)[1] == 0
    assert arena.region("shared", 8)[:2] == b"hi"
    assert arena.region("first", 10)[:2] == b"\0\0"


def test_no_room_is_said():
    arena = Arena(size=SMALL)
    with pytest.raises(ArenaFull):
        arena.region("big", SMALL)


def test_no_entry_is_said():
    arena = Arena(size=1 << 26)
    for number in range(ENTRIES):
        arena.region(str(number), 1)
    with pytest.raises(ArenaFull):
        arena.region("one more", 1)


def test_a_file_keeps_it(tmp_path: Path):
    def opened() -> Arena:
        return Arena(os.open(tmp_path / "cells", os.O_RDWR | os.O_CREAT, 0o600), SMALL)

    arena = opened()
    arena.region("kept", 16)[:4] = b"kept"
    arena.flush()
    assert opened().region("kept", 16)[:4] == b"kept"


def test_memory_of_ones_own_takes_no_descriptor_with_it():
    def ours() -> list[str]:
        held = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return [name for name in held if os.path.exists(name) and os.stat(name).st_ino == inode]

    arena = Arena(size=SMALL)
    inode = os.fstat(arena._descriptor).st_ino
    region = arena.region("a", 8)
    before = len(ours())
    del arena
    gc.collect()
    region[:2] = b"ok"
    assert len(ours()) == before - 1
