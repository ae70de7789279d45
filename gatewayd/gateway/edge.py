"""The edge: one worker's data path as a whole. Listeners, the pipeline and its snapshot, the sweep, the drain."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from gatewayd.config.model import Document
from gatewayd.core import descriptors, redis
from gatewayd.core.arena import Arena
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.tasks import spawn
from gatewayd.gateway.accept import Acceptor, Commit, prepare
from gatewayd.gateway.build import Ground, build
from gatewayd.gateway.pipeline import Pipeline
from gatewayd.gateway.recording import Recording
from gatewayd.gateway.snapshot import Snapshot
from gatewayd.identity import fetch
from gatewayd.observe.access_log import AccessLog
from gatewayd.observe.metrics import (
    CONNECTIONS_ACCEPTED,
    CONNECTIONS_OPEN,
    CONNECTIONS_REFUSED,
    GENERATION,
    REQUESTS_IN_FLIGHT,
    TLS_HANDSHAKES_FAILED,
    WorkerMetrics,
)
from gatewayd.upstream.group import UpstreamGroup
from gatewayd.wire.downstream import DownstreamConnection
from gatewayd.wire.listener import ListenerState, Settings, Tally

_log = logging.getLogger(__name__)

SWEEP = 0.5
"""Seconds between two sweeps at most: how late a deadline may be noticed."""
QUICKEST_SWEEP = 0.05
"""Seconds between two sweeps at least, however short the configured timeouts are."""

ABORT_TURNS = 10
"""Turns of the loop that aborted connections get to end at a stop; TLS takes some."""


class Parting(NamedTuple):
    """A listener that is gone, whose idle connections may stay until `idle_until`, and all until `deadline`."""

    state: ListenerState
    idle_until: float
    deadline: float


class Edge:
    """See `server.worker.Serving` for the order of calls."""

    def __init__(
        self,
        worker: int,
        memory: memoryview,
        clock: Clock | None = None,
        secret: bytes = b"",
        arena: Arena | None = None,
    ) -> None:
        """`memory`: the daemon's metrics cells. `arena`: what else workers share; none: this one is alone.

        `secret` keys TLS session tickets: the same in all workers.
        """
        self._secret = secret or os.urandom(32)
        self._clock: Clock = clock or SystemClock()
        self._metrics = WorkerMetrics(memory, worker)
        self._ground = Ground(clock=self._clock, arena=arena or Arena(), worker=worker)
        self._recording = Recording(self._clock, self._ground.outbox, self._metrics)
        self._tally = Tally(descriptors.last_for_callers())
        self._upstreams: dict[str, UpstreamGroup] = {}
        self._listeners: dict[str, ListenerState] = {}
        self._parting: list[Parting] = []  # listeners of former generations that have connections still
        self._acceptors: dict[str, Acceptor] = {}
        self._pipeline: Pipeline | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_every = SWEEP
        self._started = False
        self._draining = False
        self._drain_deadline = self._idle_until = math.inf
        self._drained = asyncio.Event()
        self._leaving: list[tuple[float, UpstreamGroup]] = []  # of former generations, and when they are stopped
        self._past: list[tuple[float, Snapshot]] = []  # and when they are closed

    # -- generations ------------------------------------------------------------------------------------------

    def apply(self, document: Document, slots: dict[str, int], generation: int) -> None:
        """Serve `document` from now on. Raises `ConfigError`; what was served before is served on then."""
        ground = self._ground
        ground.slots = slots
        snapshot = build(document, ground, generation)
        try:
            commits = {
                name: prepare(name, each, self._secret, self._handshake_failed, self._refused)
                for name, each in document.listeners.items()
            }
            recorder = self._recording.open(document)
            log = self._log_for(document)  # last of what may fail, for it opens a file
        except BaseException:
            snapshot.close()
            raise
        self._take_upstreams(snapshot)
        self._part_with_listeners(snapshot)
        if self._pipeline is None:
            self._pipeline = Pipeline(snapshot, self._metrics, log)
        self._pipeline.snapshot = snapshot
        self._change_log(log)
        self._recording.serve(recorder, document, generation, self._pipeline)
        self._configure_listeners(document, commits)
        self._metrics.put(GENERATION, generation)
        self._metrics.name_policies({name: (link.policy, link.mode) for name, link in snapshot.links.items()})
        self._sweep_every = sweep_interval(document)

    def _log_for(self, document: Document) -> AccessLog | None:
        """The present access log if nothing about it changes, else a new one. Raises `ConfigError`."""
        config = document.access_log
        if self._pipeline is not None and config == self._pipeline.snapshot.document.access_log:
            return self._pipeline.access_log
        return AccessLog(config, self._clock, self._metrics) if config.enabled else None

    def _change_log(self, log: AccessLog | None) -> None:
        assert self._pipeline is not None
        self._pipeline.record()
        old, self._pipeline.access_log = self._pipeline.access_log, log
        if old is not None and old is not log:
            old.close()

    def _take_upstreams(self, snapshot: Snapshot) -> None:
        """Carry over what is known about targets; start what is new, stop what is gone once it is no longer in use."""
        old = self._upstreams
        for name, group in snapshot.upstreams.items():
            if name in old:
                group.carry_over(old[name])
            if self._started:
                spawn(group.start(), f"start upstream {name}")
        until = self._clock.monotonic() + snapshot.document.gateway.drain_timeout
        self._leaving += [(until, group) for group in old.values()]
        if self._pipeline is not None:
            self._past.append((until, self._pipeline.snapshot))
        self._upstreams = snapshot.upstreams

    def _part_with_listeners(self, snapshot: Snapshot) -> None:
        """Connections of listeners that are gone get one more reply each, by the routes they knew."""
        gateway = snapshot.document.gateway
        now = self._clock.monotonic()
        for name in [name for name in self._listeners if name not in snapshot.document.listeners]:
            state = self._listeners.pop(name)
            state.draining = True
            self._parting.append(Parting(state, now + gateway.drain_idle_grace, now + gateway.drain_timeout))
        for each in self._parting:
            known = self._pipeline.snapshot.routers[each.state.name]  # type: ignore[union-attr]
            snapshot.routers.setdefault(each.state.name, known)

    def _take_back(self, name: str) -> None:
        """A listener `name` that is to part, but accepts still, stays: another worker refused the last generation."""
        for each in list(self._parting):
            if each.state.name == name and name in self._acceptors and name not in self._listeners:
                self._parting.remove(each)
                each.state.draining = False
                self._listeners[name] = each.state

    def _configure_listeners(self, document: Document, commits: dict[str, Commit]) -> None:
        for name, commit in commits.items():
            self._take_back(name)
            acceptor, reopen = commit(self._acceptors.get(name))
            reopen = acceptor.wait_for_handshakes(document.timeouts.handshake) or reopen
            self._acceptors[name] = acceptor
            scheme = b"http" if acceptor.contexts is None else b"https"
            state = self._listeners.get(name)
            if state is None:
                self._listeners[name] = self._listener_state(name, scheme, acceptor.settings(document))
            else:
                state.settings = acceptor.settings(document)
                state.scheme = scheme
            if reopen:
                spawn(acceptor.reopen(), f"reopen {name}")

    def _listener_state(self, name: str, scheme: bytes, settings: Settings) -> ListenerState:
        assert self._pipeline is not None
        each = self._pipeline
        state = ListenerState(name, scheme, settings, each.handle, each.finished, self._tally, self._clock)
        state.answered, state.on_refused, state.outbox = each.answered, self._refused, self._ground.outbox
        return state

    def _handshake_failed(self, error: Exception) -> None:
        self._metrics.count(TLS_HANDSHAKES_FAILED)

    def _refused(self, reason: str) -> None:
        self._metrics.token(CONNECTIONS_REFUSED, reason)

    # -- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin what runs beside requests: name resolution, health checks, the sweep."""
        self._started = True
        await asyncio.gather(*(group.start() for group in self._upstreams.values()))
        self._sweep()

    async def listen(self, name: str, sock: socket.socket) -> None:
        """Accept for the listener `name` on `sock` as well."""
        await self._acceptors[name].open(sock, self._connection_factory(name))

    def _connection_factory(self, name: str) -> Callable[..., DownstreamConnection]:
        state = self._listeners[name]
        count = self._metrics.count

        def make(address: tuple[str, int] | None = None) -> DownstreamConnection:
            count(CONNECTIONS_ACCEPTED)
            return DownstreamConnection(state, address)

        return make

    async def unlisten(self, name: str) -> None:
        """Take what is queued, then accept no more for `name`; its connections stay."""
        await self._acceptors[name].close()
        if name not in self._listeners:
            del self._acceptors[name]

    async def stop(self) -> None:
        """End everything at once."""
        for acceptor in self._acceptors.values():
            await acceptor.shut()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._abort_all()
        for group in [*self._upstreams.values(), *(group for _, group in self._leaving)]:
            await group.stop()
        for _ in range(ABORT_TURNS):  # until the connections have heard of it, and their exchanges are recorded
            if self.connections:
                await asyncio.sleep(0)
        await fetch.close()
        await redis.close()
        if self._pipeline is not None:
            self._change_log(None)
        self._recording.close()

    @property
    def connections(self) -> int:
        """Callers' connections, tunnels included."""
        return sum(len(state.connections) for state in self._states())

    def _states(self) -> list[ListenerState]:
        """All listeners with connections, those of former generations included."""
        return [*self._listeners.values(), *(each.state for each in self._parting)]

    def tell(self, topic: str, body: bytes) -> bytes:
        """Tell whoever hears `topic` in the generation that serves. A JSON list of what they said."""
        heard = self._pipeline.snapshot.topics.get(topic, ()) if self._pipeline is not None else ()
        return msgspec.json.encode([answer(body) for answer in heard])

    def reopen_logs(self) -> None:
        """Open the access log anew."""
        if self._pipeline is not None and self._pipeline.access_log is not None:
            self._pipeline.record()
            self._pipeline.access_log.reopen()

    def status(self) -> dict[str, Any]:
        """What `/status` says about this worker."""
        return {
            "generation": self._pipeline.snapshot.generation if self._pipeline is not None else 0,
            "connections": self.connections,
            "draining": self._draining,
            "figures": self._pipeline.snapshot.shown() if self._pipeline is not None else {},
            "upstreams": {name: group.status() for name, group in self._upstreams.items()},
            "certificates": {
                name: self._acceptors[name].contexts.expires  # type: ignore[union-attr]
                for name in self._listeners
                if self._acceptors[name].contexts is not None
            },
        }

    # -- drain ------------------------------------------------------------------------------------------------

    def drain(self, timeout: float, idle_grace: float) -> None:
        """Stop accepting; answer with `Connection: close`; close what idles after the grace, all after the timeout."""
        now = self._clock.monotonic()
        self._draining = True
        self._drain_deadline = now + timeout
        self._idle_until = now + idle_grace
        for state in self._states():
            state.draining = True
        spawn(self._stop_accepting(), "stop accepting")

    async def _stop_accepting(self) -> None:
        await asyncio.gather(*(acceptor.close() for acceptor in self._acceptors.values()))
        self._sweep_drain(self._clock.monotonic())

    async def drained(self) -> None:
        """Wait for the end of the drain."""
        await self._drained.wait()

    def _sweep_drain(self, now: float) -> None:
        if now >= self._drain_deadline:
            self._abort_all()
            self._drained.set()
        elif not self.connections and all(acceptor.closed for acceptor in self._acceptors.values()):
            self._drained.set()
        elif now >= self._idle_until:
            for state in self._states():
                for connection in list(state.connections):
                    connection.close_if_idle()

    def _abort_all(self) -> None:
        for state in self._states():
            for connection in list(state.connections):
                connection.shut_down()

    # -- the sweep --------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        try:
            self._sweep_connections(now)
            self._sweep_upstreams(now)
            self._record(now)
            if self._draining:
                self._sweep_drain(now)
            elif self._parting:
                self._sweep_parting(now)
        except Exception:
            _log.exception("the sweep failed")
        loop = asyncio.get_running_loop()
        self._sweep_timer = loop.call_later(QUICKEST_SWEEP if self._draining else self._sweep_every, self._sweep)

    def _record(self, now: float) -> None:
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.record()
            if pipeline.access_log is not None:
                pipeline.access_log.tick(now)
            self._recording.tick(now)

    def _sweep_connections(self, now: float) -> None:
        due = []
        busy = 0
        for state in self._states():
            for connection in state.connections:
                if connection.exchange is not None:
                    busy += 1
                sink = connection.sink
                if connection.deadline <= now or (sink is not None and sink.deadline <= now):
                    due.append(connection)
        self._metrics.put(CONNECTIONS_OPEN, self.connections)
        self._metrics.put(REQUESTS_IN_FLIGHT, busy)
        for connection in due:
            if connection.deadline <= now:
                connection.expire(now)
            sink = connection.sink
            if sink is not None and sink.deadline <= now:
                sink.expire(now)

    def _sweep_parting(self, now: float) -> None:
        for each in self._parting:
            for connection in list(each.state.connections) if now >= each.idle_until else ():
                if now >= each.deadline:
                    connection.shut_down()
                else:
                    connection.close_if_idle()
        self._parting = [each for each in self._parting if now < each.idle_until or each.state.connections]

    def _sweep_upstreams(self, now: float) -> None:
        for group in self._upstreams.values():
            for target in group.targets:
                if target.pool is not None:
                    target.pool.sweep(now)
        while self._past and self._past[0][0] <= now:
            self._past.pop(0)[1].close()
        over = [group for until, group in self._leaving if until <= now]
        if over:
            self._leaving = [(until, group) for until, group in self._leaving if until > now]
            for group in over:
                spawn(group.stop(), f"stop upstream {group.name}")


def sweep_interval(document: Document) -> float:
    """Seconds between sweeps: a quarter of the shortest timeout, within bounds."""
    timeouts = document.timeouts
    times = [timeouts.head, timeouts.body_idle, timeouts.keepalive, timeouts.send_idle, timeouts.linger]
    for service in document.services.values():
        limits = service.timeouts
        times += [limits.connect, limits.first_byte, limits.idle, limits.total, limits.tunnel_idle]
    shortest = min((float(seconds) for seconds in times if seconds), default=SWEEP)
    return min(SWEEP, max(QUICKEST_SWEEP, shortest / 4))
