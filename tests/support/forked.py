"""Work in a child process. A child never comes back into the test: one that fails would run all tests behind it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def forked(work: Callable[[], object]) -> int:
    """The process id of a child that does `work` and exits: 0, or 1 if it raised or returned False."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = 1 if work() is False else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
