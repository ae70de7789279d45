"""Running sinks in tests, without waiting for anything."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import pytest

from gatewayd.collect.sinks.following import Following
from gatewayd.collect.sinks.sink import Runner
from gatewayd.config.sinks import Sink as Config


class Waits:
    """What a runner waits with: notes how long it would have, and ends it after so many."""

    def __init__(self, most: int = 1, between=None) -> None:
        self.pauses: list[float] = []
        self._most = most
        self._between = between

    async def __call__(self, seconds: float) -> bool:
        """Whether it is to end."""
        self.pauses.append(seconds)
        if self._between is not None:
            self._between(len(self.pauses))
        return len(self.pauses) >= self._most


def ran(
    sink: Any,
    store: Any,
    config: Config | None = None,
    waits: Waits | None = None,
    name: str = "s",
    beside: AbstractAsyncContextManager[Any] | None = None,
) -> Runner:
    """A runner that went on until it had nothing to do, or as `waits` has it; `beside` it another ran."""

    async def play() -> Runner:
        runner = Runner(name, config or Config(), sink, lambda: store, waits or Waits())
        async with beside or nullcontext():
            await runner.run()
        return runner

    return asyncio.run(play())


class Killed(BaseException):
    """Ends a runner where it stands, as the end of its process would: nothing catches it."""


def killed_before_the_position(monkeypatch: pytest.MonkeyPatch, sink: Any, store: Any, **options: Any) -> None:
    """Run until the target has a batch, and end before that is noted."""

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Following, "commit", dies)
        ran(sink, store, **options)
