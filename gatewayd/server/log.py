"""The daemon's own log: one line per record on stderr, `2026-11-23T10:00:00.123Z INFO worker 0 text`."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

_BREAKS = {**{code: f"\\x{code:02x}" for code in (*range(32), 127)}, 10: " | ", 13: "", 9: " "}


class OneLine(logging.Formatter):
    """ISO 8601 in UTC, level, who, message; a traceback follows on the same line.

    Control characters are written as escapes, so that nothing a caller sent can forge a record.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self, who: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)s {who} %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, without its end."""
        return super().format(record).translate(_BREAKS)


def set_up(who: str, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (stderr), marked with `who`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine(who))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
