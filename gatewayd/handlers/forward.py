"""One exchange on its way to a target and back: attempts, the body between them, deadlines, and what failed.

A `Forward` stands between the caller's connection (it is its `BodySink`) and the target's (it is its `Receiver`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange, Headers
from gatewayd.core.problem import answer, problem
from gatewayd.errors import UpstreamError
from gatewayd.upstream.retry import IDEMPOTENT, may_retry
from gatewayd.upstream.target import Target
from gatewayd.wire.heads import ReplyHead
from gatewayd.wire.tunnel import Tunnel
from gatewayd.wire.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gatewayd.handlers.proxy import ProxyService


class Forward:
    """The proxy handler's state for one exchange."""

    __slots__ = (
        "answered", "attempt", "body_ended", "chunked", "connection", "deadline", "exchange", "gone", "kept",
        "kept_size", "replayable", "replying", "service", "started", "stop_at", "target", "trailers", "tried",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, service: ProxyService) -> None:
        self.exchange = exchange
        self.service = service
        self.connection: UpstreamConnection | None = None
        self.target: Target | None = None
        self.tried: tuple[Target, ...] = ()
        self.attempt = 0
        self.started = exchange.started  # of this attempt
        total = service.timeouts.total
        self.answered = -1.0  # seconds until the reply's head; below 0 before it
        self.stop_at = exchange.started + total if total else math.inf
        self.deadline = math.inf
        self.gone = False  # over: nobody waits for this any more (`upstream.pool.Waiter`)
        self.replying = False
        self.chunked = exchange.body_length == UNKNOWN_LENGTH
        self.body_ended = exchange.body_length == 0
        self.trailers: Headers = []
        self.kept: list[bytes] = []  # body bytes not sent yet, or sent and wanted for another attempt
        self.kept_size = 0
        self.replayable = True

    # -- attempts -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the first attempt."""
        if self.service.loops(self.exchange):
            self._refuse(UpstreamError(508, "loop_detected"))
            return
        self._attempt()
        if not self.gone:
            self.exchange.downstream.read_body(self)

    def _attempt(self) -> None:
        group = self.service.group
        if not (group.breaker.closed or group.breaker.allow(self.started)):
            self._refuse(UpstreamError(503, "breaker_open"))
            return
        target = group.pick(self.exchange, self.tried)
        if target is None:
            self._refuse(UpstreamError(503, "no_available_target"))
            return
        self.target = target
        self.attempt += 1
        exchange = self.exchange
        exchange.attempts = self.attempt
        exchange.target = target.address
        group.started(target)
        pool = target.pool
        connection = pool.take(exchange.method in IDEMPOTENT) if pool.idle else None
        if connection is not None:
            self.connected(connection)
            return
        self._wait(self.service.timeouts.connect)
        try:
            pool.want(self)
        except UpstreamError as error:
            self.dial_failed(error)

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection is ours: send what there is of the request."""
        self.connection = connection
        exchange = self.exchange
        head = self.service.request_head(exchange, self.target)  # type: ignore[arg-type]
        if not self.kept:
            ended = self.body_ended and not self.chunked
            connection.send_request(head, self, exchange.method, ended)
            if self.body_ended and self.chunked:
                connection.end_request(self.trailers, True)
        else:
            connection.send_request(head, self, exchange.method, False)
            self._send_kept(connection)
        self._wait(self.service.timeouts.first_byte)
        if not self.body_ended:
            exchange.downstream.resume_body()

    def _send_kept(self, connection: UpstreamConnection) -> None:
        for piece in self.kept:
            connection.send_body(piece, self.chunked)
        if self.body_ended:
            connection.end_request(self.trailers, self.chunked)
        self._keep_within_limit()

    def _keep_within_limit(self) -> None:
        if self.kept_size > self.service.retries.body:
            self.replayable = False
            self.kept = []
            self.kept_size = 0

    def _wait(self, seconds: float) -> None:
        self.deadline = min(self.started + seconds if seconds else math.inf, self.stop_at)

    def _wait_from_now(self, seconds: float) -> None:
        self.deadline = min(self.service.clock.monotonic() + seconds if seconds else math.inf, self.stop_at)

    # -- the request's body (BodySink) --------------------------------------------------------------------------

    def body(self, data: bytes) -> None:
        """A piece of the request's body: on to the target, and kept while another attempt might want it."""
        connection = self.connection
        if connection is None or self.replayable:
            self.kept.append(data)
            self.kept_size += len(data)
        if connection is None:
            self.exchange.downstream.pause_body()
            return
        connection.send_body(data, self.chunked)
        if self.replayable:
            self._keep_within_limit()
        if not self.replying:
            self._wait_from_now(self.service.timeouts.idle)

    def body_end(self, trailers: Headers) -> None:
        """The request is complete."""
        self.body_ended = True
        self.trailers = trailers
        if self.connection is not None:
            self.connection.end_request(trailers, self.chunked)
            if not self.replying:
                self._wait_from_now(self.service.timeouts.first_byte)

    def caller_gone(self) -> None:
        """The caller left: so does the request, and the target is not to blame."""
        if self.gone:
            return
        connection, target = self._ours(), self.target
        self.gone = True
        self.deadline = math.inf
        self.connection = self.target = None
        if target is not None:
            now = self.service.clock.monotonic()
            if self.answered >= 0:
                self.service.group.finished(target, self.answered, False, now)
            else:
                self.service.group.abandoned(target, now - self.started, now)
        if connection is not None:
            connection.drop()

    def pause_reply(self) -> None:
        """The caller reads too slowly; its own watch runs meanwhile, ours does not."""
        connection = self._ours()
        if connection is not None:
            connection.pause_reply()
            self.deadline = self.stop_at

    def resume_reply(self) -> None:
        """The caller reads on."""
        connection = self._ours()
        if connection is not None:
            connection.resume_reply()
            self._wait_from_now(self.service.timeouts.idle)

    def expire(self, now: float) -> None:
        """A timeout of the service has passed."""
        self.deadline = math.inf
        if self.connection is None:
            error = UpstreamError(504, "connect_timeout", "always")
        elif self.replying:
            error = UpstreamError(504, "reply_timeout")
        else:
            error = UpstreamError(504, "first_byte_timeout", "idempotent")
        if now >= self.stop_at:
            error.reason, error.retry = "total_timeout", "never"
        self.reply_failed(error)

    # -- the reply (Receiver) -------------------------------------------------------------------------------------

    def dial_failed(self, error: UpstreamError) -> None:
        """There is no connection to the target."""
        if not self.gone:
            self.reply_failed(error)

    def reply_informs(self, status: int, headers: Headers) -> None:
        """An interim reply goes on to the caller."""
        self.exchange.downstream.inform(status, headers)

    def reply_head(self, head: ReplyHead, first: bytes, complete: bool) -> None:
        """The reply begins."""
        service = self.service
        exchange = self.exchange
        now = service.clock.monotonic()
        status = head.status
        if status in service.retry_statuses and self._retried(status, now):
            return
        self.replying = True
        self.answered = now - self.started
        exchange.upstream_seconds = now - exchange.started
        headers = head.headers
        headers.append((b"via", service.via))
        if service.rewriting is not None and self.target is not None:
            service.undo_rewriting(headers, exchange, self.target)
        if complete:
            self._settle(status in service.failure_statuses, now)
            downstream = exchange.downstream
            exchange.start_reply(status, headers, head.length if head.length >= 0 else len(first), first)
            downstream.end_reply([])
        else:
            self._wait_until_idle(now)
            exchange.start_reply(status, headers, head.length, first)

    def _wait_until_idle(self, now: float) -> None:
        idle = self.service.timeouts.idle
        self.deadline = min(now + idle if idle else math.inf, self.stop_at)

    def reply_body(self, data: bytes) -> None:
        """More of the reply."""
        self._wait_from_now(self.service.timeouts.idle)
        self.exchange.downstream.send_body(data)

    def reply_end(self, trailers: Headers) -> None:
        """The reply is complete."""
        status = self.exchange.status
        self._settle(status in self.service.failure_statuses, self.service.clock.monotonic())
        self.exchange.downstream.end_reply(trailers)

    def reply_failed(self, error: UpstreamError) -> None:
        """The attempt failed: try again, or tell the caller."""
        now = self.service.clock.monotonic()
        if self.replying:
            self._leave()
            self.exchange.reason = error.reason
            self.exchange.downstream.abort()
        elif not self._retried(error, now):
            self._leave()
            self._refuse(error)

    def reply_upgrade(self, head: ReplyHead, rest: bytes) -> None:
        """The target switched protocols: if that was asked for, both connections become a tunnel."""
        exchange, connection = self.exchange, self.connection
        protocol = dict(head.withheld).get(b"upgrade", b"")
        if connection is None or not exchange.upgrade or protocol.lower() != exchange.upgrade:
            self.reply_failed(UpstreamError(502, "unasked_upgrade"))
            return
        self._settle(False, self.service.clock.monotonic())
        exchange.status = 101
        headers = [*head.headers, (b"via", self.service.via), (b"x-request-id", exchange.request_id)]
        downstream: Any = exchange.downstream
        transport, early = downstream.upgrade(headers, protocol)
        tunnel = Tunnel(
            transport,
            connection.transport,
            self.service.timeouts.tunnel_idle or math.inf,
            self.service.clock,
            lambda received, sent: self._tunnel_closed(connection, received, sent),
        )
        downstream.read_body(tunnel)
        tunnel.start(early, rest)

    def _tunnel_closed(self, connection: UpstreamConnection, received: int, sent: int) -> None:
        exchange = self.exchange
        exchange.body_received, exchange.body_sent = received, sent
        connection.drop()
        downstream: Any = exchange.downstream
        downstream.tunnel_closed()

    def pause_request(self) -> None:
        """The target reads too slowly."""
        self.exchange.downstream.pause_body()

    def resume_request(self) -> None:
        """The target reads on."""
        self.exchange.downstream.resume_body()

    # -- endings --------------------------------------------------------------------------------------------------

    def _retried(self, error: UpstreamError | int, now: float) -> bool:
        """Make another attempt if that is safe and within the budget."""
        service = self.service
        replayable = self.replayable or (self.connection is None)
        method = self.exchange.method
        if now >= self.stop_at:
            return False
        if not may_retry(method, error, self.attempt, service.retries, service.group.budget, replayable):
            return False
        target = self.target
        self._leave(retried=True)
        self.gone = False
        self.tried = (*self.tried, target) if target is not None else self.tried
        self.started = now
        self.answered = -1.0
        self._attempt()
        return True

    def _ours(self) -> UpstreamConnection | None:
        """The connection, while the exchange on it is ours: once its reply is complete it may serve another already."""
        connection = self.connection
        return connection if connection is not None and connection.receiver is self else None

    def _settle(self, failed: bool, now: float, retried: bool = False) -> None:
        """The attempt is over and its connection is no longer ours."""
        self.gone = True
        self.deadline = math.inf
        self.connection = None
        target, self.target = self.target, None
        if target is not None:
            seconds = self.answered if self.answered >= 0 else now - self.started
            self.service.group.finished(target, seconds, failed, now, retried)

    def _leave(self, retried: bool = False) -> None:
        """Give the attempt up as failed, whatever state its connection is in; `retried`: another follows."""
        connection = self._ours()
        self._settle(True, self.service.clock.monotonic(), retried)
        if connection is not None:
            connection.drop()

    def _refuse(self, error: UpstreamError) -> None:
        self.gone = True
        exchange = self.exchange
        exchange.reason = error.reason
        answer(exchange, problem(error.status, error.reason, _DETAILS.get(error.reason, "")))


_DETAILS = {
    "breaker_open": "the service fails too often; it is given a rest",
    "no_available_target": "no target of the service is available",
    "connect_timeout": "no target could be reached in time",
    "first_byte_timeout": "the service did not answer in time",
    "total_timeout": "the service did not answer in time",
}
