"""A target's keep-alive connections in one worker: the freshest is used first, and so the others can age out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from gatewayd.config import model
from gatewayd.core.tasks import spawn
from gatewayd.errors import UpstreamError


class Connection(Protocol):
    """What can be pooled."""

    closed: bool
    idle_since: float
    served: int

    def drop(self) -> None:
        """Close at once."""
        ...

    def readable(self) -> bool:
        """Whether something came in that the loop has not seen: on an idle connection, the end of it."""
        ...


C = TypeVar("C", bound=Connection)
Dial = Callable[["Pool[C]"], Coroutine[Any, Any, C]]
"""Opens a connection whose `on_free` and `on_lost` are the pool's; raises `UpstreamError`."""


class Waiter(Protocol):
    """Who wants a connection."""

    @property
    def gone(self) -> bool:
        """Whether it wants none any more."""
        ...

    def connected(self, connection: Any) -> None:
        """Here it is; it is the waiter's until it is freed or lost."""
        ...

    def dial_failed(self, error: UpstreamError) -> None:
        """There will be none."""
        ...


class Pool(Generic[C]):
    """Connections to one target, busy ones counted, idle ones kept (`config.model.Pool`)."""

    __slots__ = ("_config", "_dial", "_retired", "_waiting", "dials", "idle", "open", "reused")

    def __init__(self, config: model.Pool, dial: Dial[C]) -> None:
        self._config = config
        self._dial = dial
        self._waiting: deque[Waiter] = deque()
        self._retired = False
        self.idle: list[C] = []
        self.open = 0  # busy, idle and being dialled
        self.dials = 0  # connections begun so far
        self.reused = 0  # exchanges so far that got a connection another one left

    def __repr__(self) -> str:
        return f"<Pool open={self.open} idle={len(self.idle)} waiting={len(self._waiting)}>"

    def status(self) -> dict[str, int]:
        """For `/status` and metrics."""
        waiting = sum(not waiter.gone for waiter in self._waiting)
        idle = len(self.idle)
        return {
            "open": self.open,
            "idle": idle,
            "busy": self.open - idle,
            "waiting": waiting,
            "dials": self.dials,
            "reused": self.reused,
        }

    def take(self, idempotent: bool = True) -> C | None:
        """An idle connection, the one used last; None if there is none.

        What cannot be sent twice gets one that was looked at just now: a close that waits unseen in the kernel would
        fail the request (0.7 µs, and only for methods that are not idempotent).
        """
        idle = self.idle
        while idle:
            connection = idle.pop()
            if idempotent or not connection.readable():
                self.reused += 1
                return connection
            connection.drop()
        return None

    def want(self, waiter: Waiter) -> None:
        """Dial a connection for `waiter`, or line it up; raises `UpstreamError` 503 when the line is full."""
        while self._waiting and self._waiting[0].gone:
            self._waiting.popleft()
        if self.open < self._config.connections:
            self.open += 1
            spawn(self._open(waiter), "dial")
        elif len(self._waiting) < self._config.queue:
            self._waiting.append(waiter)
        else:
            raise UpstreamError(503, "pool_exhausted", "always")

    async def _open(self, waiter: Waiter) -> None:
        self.dials += 1
        try:
            connection = await self._dial(self)
        except UpstreamError as error:
            self.open -= 1
            if not waiter.gone:
                waiter.dial_failed(error)
            self._next_dial()
            return
        if connection.closed:  # the target closed it before anything was sent
            if not waiter.gone:
                waiter.dial_failed(UpstreamError(502, "closed_before_reply", "always"))
        elif waiter.gone:
            self.free(connection)
        else:
            waiter.connected(connection)

    def free(self, connection: C) -> None:
        """`connection` can serve again."""
        config = self._config
        if self._retired or connection.served >= config.requests_per_connection:
            connection.drop()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.gone:
                self.reused += connection.served > 0
                waiter.connected(connection)
                return
        if len(self.idle) >= config.idle_connections:
            connection.drop()
            return
        connection.idle_since = 0.0  # the next sweep notes the time: a clock read less per exchange
        self.idle.append(connection)

    def lost(self, connection: C) -> None:
        """`connection` is closed."""
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        self._next_dial()

    def _next_dial(self) -> None:
        while self._waiting and self.open < self._config.connections:
            waiter = self._waiting.popleft()
            if not waiter.gone:
                self.open += 1
                spawn(self._open(waiter), "dial")

    def sweep(self, now: float) -> None:
        """Close connections that idled for too long; the oldest stand first."""
        oldest = now - self._config.idle_timeout
        for connection in list(self.idle):
            if not connection.idle_since:
                connection.idle_since = now
            elif connection.idle_since < oldest:
                connection.drop()

    def retire(self) -> None:
        """The target is gone: close what is idle, keep nothing that comes back."""
        self._retired = True
        for connection in list(self.idle):
            connection.drop()

    def configure(self, config: model.Pool, dial: Dial[C]) -> None:
        """Go on under another configuration; connections that are open stay."""
        self._config = config
        self._dial = dial
        self._retired = False
