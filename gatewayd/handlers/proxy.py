"""The proxy handler: a service's targets answer. What does not depend on the request is prepared in `ProxyService`."""

from __future__ import annotations

import math
from collections.abc import Callable

from gatewayd.config import model
from gatewayd.core.clock import Clock
from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange, Headers
from gatewayd.core.policy import Handler, Reply
from gatewayd.core.problem import answer, problem
from gatewayd.handlers.forward import Forward
from gatewayd.rfc.forwarding import Via
from gatewayd.rfc.rewrite import Asked, Rewriting
from gatewayd.upstream.group import UpstreamGroup
from gatewayd.upstream.target import Target

_pair = b": ".join
_lines = b"\r\n".join
_NOTHING = b"accept: */*"
"""What a request without any field is sent with: it asks for the same (RFC 9110 §12.5.1), and the head has one form."""
_COUNTED = frozenset((b"OPTIONS", b"TRACE"))
"""Methods whose `Max-Forwards` counts; others ignore it."""
NO_TRACE = problem(501, "method_not_implemented", "the gateway itself answers no TRACE")
_WITH_CONTENT = frozenset((b"POST", b"PUT", b"PATCH"))


class ProxyService:
    """A service as compiled for a route: where requests go, what is changed on the way, how long it may take."""

    __slots__ = (
        "_via", "clock", "failure_statuses", "first_byte", "group", "host", "idle", "path_rewriter", "retries",
        "retry_statuses", "rewriting", "scheme", "timeouts", "upgrades", "via", "via_field",
    )  # fmt: skip

    def __init__(
        self,
        service: model.Service,
        group: UpstreamGroup,
        clock: Clock,
        via: Via,
        upgrades: frozenset[bytes] = frozenset(),
        path_rewriter: Callable[[bytes], bytes] | None = None,
        rewriting: Rewriting | None = None,
    ) -> None:
        self.group = group
        self.clock = clock
        self._via = via
        self.via = via.value(b"1.1", [])  # of a message that has none yet
        self.via_field = (b"via", self.via)
        self.upgrades = upgrades
        self.path_rewriter = path_rewriter
        self.rewriting = rewriting
        self.scheme = b"http" if group.config.tls is None else b"https"  # spoken to targets
        self.timeouts = service.timeouts
        self.first_byte = float(service.timeouts.first_byte) or math.inf  # seconds, as all of these
        self.idle = float(service.timeouts.idle) or math.inf
        self.retries = service.retries
        self.failure_statuses = frozenset(group.config.passive_health.statuses)
        self.retry_statuses = frozenset(service.retries.statuses)
        self.host: bytes | None = None  # None: the caller's; b"": the target's
        if service.host != "preserve":
            self.host = b"" if service.host == "target" else service.host.encode()

    def loops(self, exchange: Exchange) -> bool:
        """Whether the request has come by here too often."""
        return exchange.via != b"" and self._via.loops([exchange.via])

    def retry_after(self) -> tuple[tuple[bytes, bytes], ...]:
        """What callers who find no target are told (RFC 9110 §10.2.3)."""
        return ((b"retry-after", b"%d" % self.group.breaker.wait(self.clock.monotonic())),)

    def request_head(self, exchange: Exchange, target: Target) -> bytes:
        """The head that is sent to a target, written anew from the exchange alone (RFC 9112 §3)."""
        path = exchange.path if self.path_rewriter is None else self.path_rewriter(exchange.path)
        if exchange.query is not None:
            path = b"%b?%b" % (path, exchange.query)
        host = exchange.host if self.host is None else self.host
        plain = not exchange.via and exchange.http_version == b"1.1"
        length = exchange.body_length
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n%bvia: %b\r\nx-request-id: %b\r\n%b\r\n" % (
            exchange.method,
            path,
            host or self.sent_host(exchange, target),
            _lines(map(_pair, exchange.headers)) if exchange.headers else _NOTHING,
            exchange.forwarding,
            self.via if plain else self._via_of(exchange),
            exchange.request_id,
            self._framing(exchange) if length or exchange.upgrade or exchange.method in _WITH_CONTENT else b"",
        )

    def sent_path(self, exchange: Exchange) -> bytes:
        """The path the target is asked for."""
        return exchange.path if self.path_rewriter is None else self.path_rewriter(exchange.path)

    def sent_host(self, exchange: Exchange, target: Target) -> bytes:
        """The Host the target gets."""
        host = exchange.host if self.host is None else self.host
        return host or (b"localhost" if target.path else target.address.encode())

    def undo_rewriting(self, headers: Headers, exchange: Exchange, target: Target) -> None:
        """Make a reply's `Location` and cookies say what the caller's side calls things."""
        if self.rewriting is not None:
            sent_host = self.sent_host(exchange, target)
            asked = Asked(
                exchange.scheme,
                exchange.host,
                self.scheme,
                sent_host,
                target.address.encode(),
                self.sent_path(exchange),
            )
            self.rewriting.apply(headers, asked)

    def _via_of(self, exchange: Exchange) -> bytes:
        return self._via.value(exchange.http_version, [exchange.via] if exchange.via else [])

    def _framing(self, exchange: Exchange) -> bytes:
        length = exchange.body_length
        if length == UNKNOWN_LENGTH:
            lines = b"transfer-encoding: chunked\r\n"
        elif length or exchange.method in _WITH_CONTENT:
            lines = b"content-length: %d\r\n" % length
        else:
            lines = b""
        if exchange.expects_continue and length:
            lines += b"expect: 100-continue\r\n"
        if exchange.upgrade and self.asks_upgrade(exchange):
            lines += b"connection: upgrade\r\nupgrade: %b\r\n" % exchange.upgrade
        return lines

    def asks_upgrade(self, exchange: Exchange) -> bool:
        """Whether the target is asked to switch protocols, as the caller asked: not with a body, nor if it may not."""
        return exchange.upgrade != b"" and not exchange.body_length and self.may_upgrade(exchange.upgrade)

    def may_upgrade(self, protocol: bytes) -> bool:
        """Whether the route lets callers switch to `protocol`; never to h2c, which would bypass every check behind."""
        if protocol.startswith(b"h2c") or b"," in protocol:
            return False
        return protocol in self.upgrades or b"*" in self.upgrades


def path_rewriter(strip_prefix: str, add_prefix: str) -> Callable[[bytes], bytes] | None:
    """What turns a caller's path into the target's; None if they are the same. Prefixes end at a segment's end."""
    stripped, added = strip_prefix.rstrip("/").encode(), add_prefix.rstrip("/").encode()
    if not stripped and not added:
        return None
    cut = len(stripped)

    def rewrite(path: bytes) -> bytes:
        if cut and path.startswith(stripped) and path[cut : cut + 1] in (b"/", b""):
            path = path[cut:]
        return added + path or b"/"

    return rewrite


def handler(service: ProxyService) -> Handler:
    """A handler that sends exchanges to `service`."""

    def proxy(exchange: Exchange) -> None:
        if exchange.method in _COUNTED and _ends_here(exchange):
            return
        Forward(exchange, service).start()

    return proxy


def _ends_here(exchange: Exchange) -> bool:
    """Count `Max-Forwards` down. At 0 the request is answered here, as if this were its target (RFC 9110 §7.6.2)."""
    headers = exchange.headers
    for at, (name, value) in enumerate(headers):
        if name == b"max-forwards" and value.isdigit():
            left = int(value[:9])
            if not left:
                answer(exchange, NO_TRACE if exchange.method == b"TRACE" else Reply(204))
                return True
            headers[at] = (name, b"%d" % (left - 1))
    return False
