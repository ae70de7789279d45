"""The thread that waits for the disk."""

from __future__ import annotations

import os
import threading

import pytest

from gatewayd.audit import syncing as module
from gatewayd.audit.syncing import Syncing


@pytest.fixture
def disk(monkeypatch):
    """A disk that takes its time: `begun` tells of a sync, which ends once `may_end` is set."""

    class Disk:
        begun, may_end = threading.Semaphore(0), threading.Semaphore(0)
        synced: list[int] = []
        error: OSError | None = None

        def sync(self, descriptor):
            self.begun.release()
            assert self.may_end.acquire(timeout=20)
            if self.error is not None:
                raise self.error
            self.synced.append(descriptor)

    disk = Disk()
    disk.synced = []
    monkeypatch.setattr(module.os, "fdatasync", disk.sync)
    return disk


def test_lag_counts_from_the_oldest_write_that_is_not_on_the_disk(disk):
    syncing = Syncing()
    assert syncing.lag(10.0) == 0.0
    syncing.due(10.0)
    syncing.due(11.0)
    assert syncing.lag(12.0) == 2.0
    syncing.sync(7)
    assert disk.begun.acquire(timeout=20)
    syncing.due(13.0)
    assert syncing.lag(14.0) == 4.0
    disk.may_end.release(2)
    syncing.close()
    assert syncing.lag(14.0) == 1.0


def test_nothing_is_synced_for_nothing_nor_twice_at_once(disk):
    syncing = Syncing()
    syncing.sync(7)
    syncing.due(1.0)
    syncing.sync(7)
    assert disk.begun.acquire(timeout=20)
    syncing.due(2.0)
    syncing.sync(7)  # the first still runs; the next call takes this one along
    disk.may_end.release(2)
    syncing.close()
    assert disk.synced == [7]


def test_a_disk_that_fails_is_told_of(disk, caplog):
    disk.error = OSError(5, "Input/output error")
    syncing = Syncing()
    syncing.due(1.0)
    syncing.sync(7)
    disk.may_end.release()
    syncing.close()
    assert syncing.failed
    assert "could not be put on the disk" in caplog.text


def test_what_is_finished_is_synced_and_closed(tmp_path):
    descriptor = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    syncing = Syncing()
    syncing.finish(descriptor)
    syncing.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
