"""Files this process may have open (getrlimit(2): RLIMIT_NOFILE), and how many of them are kept back.

The kernel always gives out the lowest free descriptor. So the number of a new connection's descriptor tells how many
are taken, whoever took them, and nobody has to count. Those kept back let what is under way go on when callers have
taken all others: targets are dialled, logs reopened, sockets received from the supervisor.
"""

from __future__ import annotations

import os
import resource
import sys

FOR_TARGETS = 256
"""Kept back from callers at most."""
FOR_OURSELVES = 32
"""Kept back from callers and targets at most."""


def fill_standard() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: else the next file opened would be taken for it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(descriptor, True)


def last_for_callers() -> int:
    """The highest descriptor that a caller's connection may have: a quarter is kept back, `FOR_TARGETS` at most."""
    limit = _limit()
    return limit - 1 - min(limit // 4, FOR_TARGETS)


def last_for_targets() -> int:
    """The highest descriptor that a target's connection may have: an eighth is kept back, `FOR_OURSELVES` at most."""
    limit = _limit()
    return limit - 1 - min(limit // 8, FOR_OURSELVES)


def _limit() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
