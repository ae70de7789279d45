"""One exchange on its way to a target and back: attempts, the body between them, deadlines, and what failed.

A `Forward` stands between the caller's connection (it is its `BodySink`) and the target's (it is its `Receiver`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange, Headers
from gatewayd.core.problem import answer, problem
from gatewayd.errors import UpstreamError
from gatewayd.handlers.wish import Wish
from gatewayd.upstream.retry import IDEMPOTENT, may_retry
from gatewayd.upstream.target import Target
from gatewayd.wire.heads import ReplyHead
from gatewayd.wire.tunnel import Tunnel
from gatewayd.wire.upstream import UpstreamConnection
from gatewayd.wire.watch import INTERVAL, SendWatch

if TYPE_CHECKING:
    from gatewayd.handlers.proxy import ProxyService


class Forward:
    """The proxy handler's state for one exchange."""

    __slots__ = (
        "answered", "attempt", "body_ended", "chunked", "connection", "deadline", "exchange", "gone", "kept",
        "kept_size", "replayable", "replying", "send_watch", "service", "started", "stop_at", "target", "trailers",
        "tried",
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
        self.gone = False  # over: nobody waits for this any more
        self.replying = False
        self.chunked = exchange.body_length == UNKNOWN_LENGTH
        self.body_ended = exchange.body_length == 0
        self.trailers: Headers = []
        self.kept: list[bytes] = []  # body bytes not sent yet, or sent and wanted for another attempt
        self.kept_size = 0
        self.replayable = True
        self.send_watch: SendWatch | None = None  # while the target takes no more of the request

    # -- attempts -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the first attempt."""
        if self.exchange.via and self.service.loops(self.exchange):
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
        target = group.lone or group.pick(self.exchange, self.tried)
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
            self.connected(connection, self.started)
            return
        self._wait(float(self.service.timeouts.connect) or math.inf, self.started)
        try:
            pool.want(Wish(self))
        except UpstreamError as error:
            self.turned_away(error)

    def turned_away(self, error: UpstreamError) -> None:
        """There is no connection for us, and nothing to blame the target for; another may do."""
        target, self.target = self.target, None
        if target is not None:
            self.tried = (*self.tried, target)
            self.service.group.abandoned(target, 0.0, self.started)
        self.reply_failed(error)

    def connected(self, connection: UpstreamConnection, now: float) -> None:
        """A connection is ours: send what there is of the request."""
        self.connection = connection
        exchange = self.exchange
        service = self.service
        head = service.request_head(exchange, self.target)  # type: ignore[arg-type]
        if self.body_ended and not self.kept:
            self._wait(service.first_byte, now)
            connection.send_request(head, self, exchange.method, not self.chunked)
            if self.chunked:
                connection.end_request(self.trailers, True)
        else:
            self._wait_on(now)
            exchange.downstream.resume_body()  # before anything is sent, for that may pause it again
            connection.send_request(head, self, exchange.method, False)
            self._send_kept(connection)

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

    def _wait(self, seconds: float, now: float) -> None:
        due = now + seconds
        self.deadline = due if due < self.stop_at else self.stop_at

    def _wait_on(self, now: float) -> None:
        """Set the deadline for what comes next. While that is the caller's to do, its own watch runs, and not ours."""
        if self.replying:
            self._wait(self.service.idle, now)
        elif self.body_ended or self.exchange.expects_continue:
            self._wait(self.service.first_byte, now)
        else:
            self.deadline = self.stop_at

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
        if self.replying:
            self._wait_on(self.service.clock.monotonic())
        elif self.send_watch is None:
            self.deadline = self.stop_at

    def body_end(self, trailers: Headers) -> None:
        """The request is complete."""
        self.body_ended = True
        self.trailers = trailers
        if self.connection is not None:
            self.connection.end_request(trailers, self.chunked)
            if self.send_watch is None:
                self._wait_on(self.service.clock.monotonic())

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
                failed = self.exchange.status in self.service.failure_statuses
                self.service.group.finished(target, self.answered, failed, now)
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
            self._wait_on(self.service.clock.monotonic())

    def expire(self, now: float) -> None:
        """A timeout of the service has passed, or it is time to look whether the target takes the request."""
        if self._takes_it(now):
            return
        self.deadline = math.inf
        if self.connection is None:
            error = UpstreamError(504, "connect_timeout", "always")
        elif self.replying:
            error = UpstreamError(504, "reply_timeout")
        elif self.send_watch is not None:
            error = UpstreamError(504, "send_timeout", "idempotent")
        else:
            error = UpstreamError(504, "first_byte_timeout", "idempotent")
        if now >= self.stop_at:
            error.reason, error.retry = "total_timeout", "never"
        self.reply_failed(error)

    def _takes_it(self, now: float) -> bool:
        """Whether the target, though slowly, goes on taking the request."""
        connection, watch = self.connection, self.send_watch
        if connection is None or watch is None or now >= self.stop_at:
            return False
        if watch.stalled(connection.transport, self.service.idle, now):
            return False
        self._wait(INTERVAL, now)
        return True

    # -- the reply (Receiver) -------------------------------------------------------------------------------------

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
        headers.append(service.via_field)
        if service.rewriting is not None and self.target is not None:
            service.undo_rewriting(headers, exchange, self.target)
        if complete:
            self._settle(status in service.failure_statuses, now)
            exchange.reply(status, headers, head.length, first)
        else:
            self._wait_on(now)
            exchange.start_reply(status, headers, head.length, first)

    def reply_body(self, data: bytes) -> None:
        """More of the reply."""
        self._wait_on(self.service.clock.monotonic())
        self.exchange.downstream.send_body(data)

    def reply_end(self, trailers: Headers) -> None:
        """The reply is complete."""
        if not self.replying:
            return  # it was not the one: another attempt is under way
        status = self.exchange.status
        self._settle(status in self.service.failure_statuses, self.service.clock.monotonic())
        self.exchange.downstream.end_reply(trailers)

    def reply_failed(self, error: UpstreamError) -> None:
        """The attempt failed: try again, or tell the caller."""
        now = self.service.clock.monotonic()
        if self.target is not None:
            self.target.complain(str(error), now)
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
        assert connection is not None
        protocol = dict(head.withheld).get(b"upgrade", b"")
        if not self.service.asks_upgrade(exchange) or protocol.lower() != exchange.upgrade:
            connection.drop()
            self.reply_failed(UpstreamError(502, "unasked_upgrade"))
            return
        self._settle(False, self.service.clock.monotonic())
        exchange.status = 101
        headers = [*head.headers, self.service.via_field]
        if not exchange.pass_reply_hooks(headers):
            connection.drop()
            return
        headers.append((b"x-request-id", exchange.request_id))
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
        now = self.service.clock.monotonic()
        self.send_watch = SendWatch(now)
        self._wait(INTERVAL, now)

    def resume_request(self) -> None:
        """The target reads on."""
        self.exchange.downstream.resume_body()
        self.send_watch = None
        self._wait_on(self.service.clock.monotonic())

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
        self.send_watch = None
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
        headers = self.service.retry_after() if error.status == 503 else ()
        answer(exchange, problem(error.status, error.reason, _DETAILS.get(error.reason, ""), headers))


_DETAILS = {
    "breaker_open": "the service fails too often; it is given a rest",
    "closed_before_reply": "the service closed the connection without an answer",
    "closed_in_reply": "the service closed the connection in the middle of its answer",
    "connect_failed": "the service cannot be reached",
    "connect_timeout": "no target could be reached in time",
    "first_byte_timeout": "the service did not answer in time",
    "loop_detected": "the request has come by here too often",
    "no_available_target": "no target of the service is available",
    "out_of_descriptors": "too many connections are open; try again later",
    "pool_exhausted": "too many requests wait for the service",
    "send_timeout": "the service did not take the request in time",
    "tls_failed": "the service's TLS connection cannot be trusted",
    "total_timeout": "the service did not answer in time",
}
