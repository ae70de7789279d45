"""How many workers a configuration asks for."""

from __future__ import annotations

import os
from pathlib import Path

from gatewayd.config.model import Document

MAX_WORKERS = 64
"""Half of the parts of shared memory: while workers drain, others may run in their stead."""
LEAST_COLUMNS = 8


def worker_count(document: Document) -> int:
    """How many workers `document` wants; "auto" is one per core this process may use."""
    if document.gateway.workers != "auto":
        return document.gateway.workers
    return max(1, min(len(os.sched_getaffinity(0)), _core_quota(), MAX_WORKERS))


def _core_quota() -> int:
    """Cores' worth of time the control group grants, rounded up (cgroup v2 `cpu.max`: quota and period)."""
    try:
        group = Path("/proc/self/cgroup").read_text("utf-8").rpartition("::/")[2].strip()
        quota, period = Path("/sys/fs/cgroup", group, "cpu.max").read_text("utf-8").split()
    except (OSError, ValueError):
        return MAX_WORKERS
    return -(-int(quota) // int(period)) if quota.isdigit() else MAX_WORKERS


def columns(document: Document) -> int:
    """Cells that a row of shared counters has: one per worker that may run, those draining included.

    A power of two, for another number is another region of memory: counters begin anew.
    """
    return max(LEAST_COLUMNS, 1 << (2 * worker_count(document) - 1).bit_length())
