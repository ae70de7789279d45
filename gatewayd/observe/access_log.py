"""The access log: one JSON line per exchange, gathered in memory and written in whole lines (docs/access-log.md).

`write` is on the path of every exchange: it costs one struct and one encoding, and no system call. What cannot be
written, because a disk is full or a reader stalls, is kept up to `BACKLOG` bytes; lines beyond are dropped and
counted. Traffic never waits for the log.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import msgspec

from gatewayd.config.model import AccessLog as AccessLogConfig
from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Exchange
from gatewayd.errors import ConfigError, Fault
from gatewayd.observe.log_sink import STANDARD, Sink, open_sink
from gatewayd.observe.metrics import LOG_LAG_MILLISECONDS, LOG_LINES_DROPPED, LOG_PENDING_BYTES, WorkerMetrics

BACKLOG = 4 * 1024 * 1024
"""Bytes of lines kept while they cannot be written."""
AGENT_LIMIT = 512
"""Bytes of User-Agent that are logged."""
COMPLAIN_EVERY = 60.0
"""Seconds between two messages about a log that cannot be written."""

_log = logging.getLogger(__name__)


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """A line. What does not apply to an exchange is left out of it."""

    time: str
    request_id: str
    client: str
    method: str
    host: str
    path: str
    status: int
    duration_ms: float
    bytes_in: int
    bytes_out: int
    http_version: str
    user_agent: str = ""
    route: str = ""
    service: str = ""
    target: str = ""
    attempts: int = 0
    upstream_ms: float | None = None
    code: str = ""
    reason: str = ""
    consumer: str = ""
    credential: str = ""
    tls: str = ""
    verdicts: dict[str, str] | None = None


_encode_into = msgspec.json.Encoder().encode_into


class AccessLog:
    """One worker's access log. With `enabled = false` none is made: the caller writes nothing then.

    `tick` is to be called from the worker's sweep. Raises `ConfigError` if the log cannot be opened.
    """

    def __init__(self, config: AccessLogConfig, clock: Clock, metrics: WorkerMetrics) -> None:
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._sink = _open(config.path)
        self._buffer = bytearray()
        self._flush_at = int(config.buffer)
        self._due = self._clean = clock.monotonic()
        self._complained = -COMPLAIN_EVERY
        self._dropped = 0
        self._broken = False
        self._millisecond = self._second = -1
        self._prefix = self._time = ""
        self._wall_ahead = clock.wall() - clock.monotonic()

    def write(self, exchange: Exchange, now: float) -> None:
        """Log an exchange that is over; `now` is monotonic seconds."""
        buffer = self._buffer
        millisecond = int((now + self._wall_ahead) * 1000)
        if millisecond != self._millisecond:
            self._turn(millisecond)
        agent = ""
        route = exchange.route
        upstream = exchange.upstream_seconds
        try:
            for name, value in exchange.headers:
                if name == b"user-agent":
                    agent = value.decode() if len(value) <= AGENT_LIMIT else _text(value[:AGENT_LIMIT])
                    break
            line = Line(
                self._time,
                exchange.request_id.decode(),
                exchange.client,
                exchange.method.decode(),
                exchange.host.decode(),
                exchange.path.decode(),
                exchange.status,
                int((now - exchange.started) * 1e6) / 1e3,
                exchange.body_received,
                exchange.body_sent,
                "1.1" if exchange.http_version == b"1.1" else exchange.http_version.decode(),
                agent,
                "" if route is None else route.name,
                "" if route is None else route.service,
                exchange.target,
                exchange.attempts,
                int(upstream * 1e6) / 1e3 if upstream else None,
                exchange.code,
                exchange.reason,
            )
        except UnicodeDecodeError:
            line = self._line_of_odd_bytes(exchange, now)
        identity = exchange.identity
        if identity is not None:
            line.consumer = identity.consumer.id
            line.credential = identity.credential
        if exchange.tls is not None:
            line.tls = exchange.tls.version
        if exchange.verdicts:
            line.verdicts = dict(exchange.verdicts)
        _encode_into(line, buffer, -1)
        buffer += b"\n"
        if len(buffer) >= self._flush_at:
            self._full()

    def tick(self, now: float) -> None:
        """Write what is due. `now` is monotonic seconds."""
        self._wall_ahead = self._clock.wall() - self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + self._config.flush_interval
        self.flush()
        if not self._buffer:
            self._clean = now
        self._metrics.put(LOG_PENDING_BYTES, len(self._buffer))
        self._metrics.put(LOG_LAG_MILLISECONDS, int((now - self._clean) * 1000))

    def flush(self) -> None:
        """Write what goes without waiting."""
        buffer = self._buffer
        if buffer:
            try:
                done = self._sink.write(buffer)
            except OSError as error:
                self._fail(error)
            else:
                if self._broken and done:
                    self._recover()
                del buffer[:done]
        self._flush_at = len(buffer) + self._config.buffer

    def reopen(self) -> None:
        """Open the path anew, after the file was moved away. If that fails the old file stays in use."""
        self.flush()
        try:
            sink = open_sink(self._config.path)
        except OSError as error:
            _log.warning("access log %s cannot be opened anew: %s", self._config.path, error.strerror)
            return
        self._sink.close()
        self._sink = sink
        self.flush()

    def close(self) -> None:
        """Write what goes without waiting, and let go of the file."""
        self.flush()
        if self._buffer:
            self._drop(self._buffer.count(b"\n"))
            self._buffer.clear()
        self._sink.close()

    def _turn(self, millisecond: int) -> None:
        self._millisecond = millisecond
        second, rest = divmod(millisecond, 1000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        self._time = f"{self._prefix}{rest:03d}Z"

    def _line_of_odd_bytes(self, exchange: Exchange, now: float) -> Line:
        """The line of an exchange with bytes that are not UTF-8: they stand in it as `\\xff`."""
        agent = next((value for name, value in exchange.headers if name == b"user-agent"), b"")
        route, upstream = exchange.route, exchange.upstream_seconds
        return Line(
            time=self._time,
            request_id=_text(exchange.request_id),
            client=exchange.client,
            method=_text(exchange.method),
            host=_text(exchange.host),
            path=_text(exchange.path),
            status=exchange.status,
            duration_ms=int((now - exchange.started) * 1e6) / 1e3,
            bytes_in=exchange.body_received,
            bytes_out=exchange.body_sent,
            http_version=_text(exchange.http_version),
            user_agent=_text(agent[:AGENT_LIMIT]),
            route="" if route is None else route.name,
            service="" if route is None else route.service,
            target=exchange.target,
            attempts=exchange.attempts,
            upstream_ms=int(upstream * 1e6) / 1e3 if upstream else None,
            code=exchange.code,
            reason=exchange.reason,
        )

    def _full(self) -> None:
        """The buffer has grown by another `buffer` bytes: write, and beyond the backlog drop what came last."""
        self.flush()
        buffer = self._buffer
        if len(buffer) > BACKLOG:
            kept = buffer.rfind(b"\n", 0, BACKLOG) + 1
            self._drop(buffer.count(b"\n", kept))
            del buffer[kept:]
            self._flush_at = len(buffer) + self._config.buffer

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        self._metrics.count(LOG_LINES_DROPPED, lines)
        self._complain("the reader is too slow")

    def _fail(self, error: OSError) -> None:
        self._broken = True
        self._complain(error.strerror or str(error))

    def _complain(self, why: str) -> None:
        now = self._clock.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            _log.warning("access log %s: %s; %d lines dropped so far", self._config.path, why, self._dropped)

    def _recover(self) -> None:
        self._broken = False
        _log.warning("access log %s is written again; %d lines dropped so far", self._config.path, self._dropped)


def faults(config: AccessLogConfig) -> list[Fault]:
    """What is wrong with the place of the log, found without making a file."""
    if not config.enabled or config.path in STANDARD:
        return []
    path = Path(config.path)
    if path.is_dir():
        return [_fault(config.path, "it is a directory")]
    if path.exists():
        return [] if os.access(path, os.W_OK) else [_fault(config.path, "it cannot be written")]
    if not path.parent.is_dir():
        return [_fault(config.path, "its directory does not exist")]
    return [] if os.access(path.parent, os.W_OK) else [_fault(config.path, "its directory cannot be written")]


def _fault(path: str, why: str) -> Fault:
    return Fault("access_log.path", f"no log can be written there: {why}", found=path)


def _open(path: str) -> Sink:
    try:
        return open_sink(path)
    except OSError as error:
        raise ConfigError([_fault(path, error.strerror or str(error))]) from None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
