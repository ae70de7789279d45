"""A thread that waits for the disk, so that the worker does not."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Syncing:
    """Puts what was written on the disk, in the order it is told to. `failed`: the disk said it could not."""

    def __init__(self) -> None:
        self.failed = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._oldest: float | None = None  # when the first write was made that is not known to be on the disk
        self._asked: float | None = None  # the same, of what is being put there
        self._thread = threading.Thread(target=self._run, name="audit sync", daemon=True)
        self._thread.start()

    def due(self, now: float) -> None:
        """Something was written at monotonic second `now`."""
        if self._oldest is None:
            self._oldest = now

    def lag(self, now: float) -> float:
        """Seconds since the oldest write that is not known to be on the disk."""
        oldest = self._asked or self._oldest
        return 0.0 if oldest is None else now - oldest

    def sync(self, descriptor: int) -> None:
        """Put what was written to `descriptor` on the disk, unless nothing was, or the last such job still runs."""
        if self._oldest is not None and self._asked is None:
            self._asked, self._oldest = self._oldest, None
            self._jobs.put(lambda: self._sync(descriptor))

    def finish(self, descriptor: int) -> None:
        """Put it on the disk and close it."""
        self._jobs.put(lambda: self._finish(descriptor))

    def close(self) -> None:
        """Wait until all is done."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError:
                _log.exception("the audit could not be put on the disk")
                self.failed = True
                self._asked = None

    def _sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)
        self._asked = None

    def _finish(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
