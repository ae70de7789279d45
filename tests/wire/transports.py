"""A transport without a socket, and an outbox that keeps nothing back: for tests of one side of a connection alone."""

from __future__ import annotations

import asyncio
from typing import Any

from gatewayd.wire.outbox import Outbox


class FakeTransport(asyncio.Transport):
    """Keeps what is written; `fate` says how it was closed."""

    def __init__(self, **extra: Any) -> None:
        super().__init__(extra)
        self.written = b""
        self.reading = True
        self.ended = False
        self.fate = ""

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.fate, "written to after the end"
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.fate != ""

    def close(self) -> None:
        self.fate = self.fate or "closed"

    def abort(self) -> None:
        self.fate = self.fate or "aborted"


class PromptOutbox(Outbox):
    """Writes at once, without a loop."""

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        self.turn += 1
        if not transport.is_closing():
            transport.write(data)
