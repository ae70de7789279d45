"""What a sink is, and what runs one: it follows the calls, sends them in batches, and remembers how far it came.

A batch is read, sent, and then the position is kept. So whatever ends in between, nothing is missing; whether something
can arrive twice is the sink's to say. A batch that fails is read again before it is sent again, for what was erased
meanwhile must not leave. Every sink runs for itself, with a thread of its own for what blocks.

Records that the target finds fault with (`RefusedError`) are sought by halves and left out, counted, if the target
takes others of the same batch: as long as it takes none, the fault may be the target's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from gatewayd.collect.sinks.following import Batch, Following
from gatewayd.collect.store import Store
from gatewayd.config.sinks import Sink as SinkConfig
from gatewayd.errors import GatewaydError

T = TypeVar("T")
FIRST_PAUSE = 0.5
"""Seconds until a batch that failed is tried again, at first; each time in a row doubles it."""
DOUBT = 64
"""Parts of a batch that are refused, and none taken, until the target itself is in doubt."""
COMPLAIN_EVERY = 60.0
"""Seconds between two messages about the same sink."""
CLOSING = 3.0
"""Seconds that a batch under way gets when the sink is to stop."""

_log = logging.getLogger(__name__)


class SinkError(GatewaydError):
    """The target could not be reached, or does not take records at present. The text holds no secret and no record."""


class RefusedError(SinkError):
    """The target found fault with the records themselves: sending them again does not help."""


class Memory(Protocol):
    """Numbers of a sink's own that outlive everything. Both block."""

    def remembered(self, name: str) -> int | None:
        """One that was kept."""
        ...

    def remember(self, numbers: Mapping[str, int]) -> None:
        """Keep some."""
        ...


class Sink(Protocol):
    """A kind of target. The text of a `SinkError` it raises is shown, of anything else no more than its type."""

    repeatable: ClassVar[bool]
    """Whether batches are planned before they are sent, so that after a crash the same is sent again."""

    def columns(self) -> list[str]:
        """SQL expressions of what each row of a batch is to hold."""
        ...

    async def open(self, memory: Memory, blocking: Blocking) -> None:
        """Get ready to send; called at the start and again after every failure.

        `blocking` runs a function in this sink's own thread. Raises `SinkError`, `OSError`.
        """
        ...

    async def send(self, batch: Batch) -> Mapping[str, int]:
        """Hand `batch` over. Gives the numbers that are to be remembered together with the position.

        Raises `RefusedError`, `SinkError`, `OSError`.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and files. Raises nothing."""
        ...


class Blocking(Protocol):
    """Runs a function in a thread that belongs to one sink, one at a time."""

    async def __call__(self, function: Callable[..., T], *args: object) -> T:
        """What `function(*args)` gives."""
        ...


class Runner:
    """Keeps one sink going. `wait(seconds)` is what it waits with, and gives whether it is to end."""

    def __init__(
        self,
        name: str,
        config: SinkConfig,
        sink: Sink,
        store: Callable[[], Store | None],
        wait: Callable[[float], Awaitable[bool]] | None = None,
    ) -> None:
        self.name = name
        self.sent = self.failures = self.refused = self.skipped = 0
        self.behind = 0
        """Records that were not sent yet, as of the last look."""
        self._config = config
        self._sink = sink
        self._store = store
        self._stop = asyncio.Event()
        self._wait = wait or self._until_stopped
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sink-{name}")
        self._following: Following | None = None
        self._columns = sink.columns()
        self._open = False
        self._failed = 0  # times in a row
        self._complained = -math.inf
        self._oldest: float | None = None

    @property
    def up(self) -> bool:
        """Whether the last attempt went well."""
        return not self._failed

    def lag(self, now: float) -> float:
        """Seconds since the oldest call that was not sent yet; `now` is Unix time."""
        oldest = self._oldest
        return 0.0 if oldest is None else max(0.0, now - oldest)

    async def run(self) -> None:
        """Send what there is, wait, and go on until `stop`."""
        try:
            while not self._stop.is_set():
                pause = await self._attempt()
                if await self._wait(pause) if pause else self._stop.is_set():
                    return
        finally:
            await self._sink.close()
            self._thread.shutdown(wait=False)

    def stop(self) -> None:
        """End behind the batch that is under way."""
        self._stop.set()

    async def _until_stopped(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stop.wait()
        except TimeoutError:
            return False

    async def _attempt(self) -> float:
        """Send a batch if there is one; how long to wait then."""
        try:
            full = await self._step()
        except Exception as error:
            self.failures += 1
            self._failed += 1
            self._open = False
            self._complain(error)
            await self._sink.close()
            return pause_after(self._failed, self._config.retry)
        if self._failed:
            self._failed = 0
            self._complained = -math.inf
            _log.info("sink %s works again", self.name)
        return 0.0 if full else float(self._config.interval)

    async def _step(self) -> bool:
        """Whether there may be more to send at once."""
        following = self._ready()
        if following is None:
            return False
        batch = await self._blocking(following.read, self._columns, self._config.batch)
        self._oldest = batch.oldest if batch else None
        self.behind = batch.behind + len(batch) if batch else 0
        if not self._open:
            await self._sink.open(following, self._blocking)
            self._open = True
        if batch is None:
            return False
        if self._sink.repeatable:
            await self._blocking(following.plan, batch)
        remember, refused = await self._send(batch)
        await self._blocking(following.commit, batch, remember)
        for name in refused:
            _log.error("sink %s: the target refuses the record %s, it is left out", self.name, name)
        self.sent += len(batch) - len(refused)
        self.refused += len(refused)
        self.skipped += batch.skipped
        self.behind = batch.behind
        self._oldest = self._oldest if batch.behind else None
        return batch.behind > 0

    def _ready(self) -> Following | None:
        if self._following is None:
            store = self._store()
            if store is not None:
                self._following = Following(store, f"sink:{self.name}", self._config.start)
        return self._following

    async def _send(self, batch: Batch) -> tuple[Mapping[str, int], list[str]]:
        """What is to be remembered, and the names of the records that the target refused while it took others."""
        try:
            return await self._sink.send(batch), []
        except RefusedError as error:
            remember: dict[str, int] = {}
            refused: list[str] = []
            parts, tried, taken = deque(_halves(batch)), 0, False
            while parts:
                part = parts.popleft()
                tried += 1
                try:
                    remember |= await self._sink.send(part)
                    taken = True
                except RefusedError:
                    parts += _halves(part)
                    refused += [part.name_of(0)] if len(part) == 1 else []
                if tried >= DOUBT and not taken:
                    break
            if not taken:
                raise SinkError(f"it finds fault with all records: {error}") from None
            return remember, refused

    async def _blocking(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained >= COMPLAIN_EVERY:
            self._complained = time.monotonic()
            _log.warning("sink %s fails and is tried again: %s", self.name, told(error))


def _halves(batch: Batch) -> list[Batch]:
    """Of one record, none."""
    half = len(batch) // 2
    return [batch.part(0, half), batch.part(half, len(batch))] if half else []


def pause_after(failures: int, longest: float) -> float:
    """Seconds until a batch is tried again that failed so many times in a row."""
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 30), max(longest, FIRST_PAUSE))


def told(error: Exception) -> str:
    """What may be said of an error: others' texts may hold secrets, or records."""
    if isinstance(error, GatewaydError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return f"{type(error).__name__}{''.join(f' ({Path(each.filename).name}:{each.lineno})' for each in place)}"
