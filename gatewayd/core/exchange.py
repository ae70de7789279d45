"""The exchange: one request and its reply, and who is on the other end. What the whole data path speaks about.

Headers are lists of `(lower-case name, value)` in the order of the wire, bytes throughout; nothing is decoded that
nobody reads. An exchange knows nothing of HTTP/1.1: the adapter of `wire/` that made it stands behind `downstream`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gatewayd.core.identity import Identity
    from gatewayd.core.policy import Route
    from gatewayd.core.trace import Trace

_log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]

UNKNOWN_LENGTH = -1
"""Length of a body whose end only its framing tells."""


class BodySink(Protocol):
    """The handler's end of an exchange that is not answered at once: takes the request body as it comes in."""

    deadline: float
    """Monotonic seconds at which `expire` is due; `math.inf` for never."""

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        ...

    def body(self, data: bytes) -> None:
        """Some bytes of the body, never empty."""
        ...

    def body_end(self, trailers: Headers) -> None:
        """The body is complete."""
        ...

    def caller_gone(self) -> None:
        """The caller went away; nothing more comes, and nobody waits for a reply."""
        ...

    def pause_reply(self) -> None:
        """The caller reads too slowly: bring no more reply bytes until `resume_reply`."""
        ...

    def resume_reply(self) -> None:
        """Reply bytes are welcome again."""
        ...


class Downstream(Protocol):
    """The caller's side of one exchange."""

    kept: dict[str, Any] | None
    """What policies keep for as long as the caller's connection lasts, by instance name; None: nothing yet."""

    def read_body(self, sink: BodySink) -> None:
        """Deliver the request body to `sink`, what has come in already first."""
        ...

    def pause_body(self) -> None:
        """Read no more of the request body until `resume_body`."""
        ...

    def resume_body(self) -> None:
        """Read on."""
        ...

    def inform(self, status: int, headers: Headers) -> None:
        """Send an interim reply (1xx, not 101)."""
        ...

    def start_reply(self, status: int, headers: Headers, length: int, first: bytes = b"") -> None:
        """Send a reply's head. `headers` hold no framing; `length` is the body's (`UNKNOWN_LENGTH` if open).

        `first` are body bytes at hand already. A reply to HEAD, a 204 and a 304 have no body whatever `length` says;
        it is then the length to announce.
        """
        ...

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        """Send a whole reply: `start_reply` with all of its body, and `end_reply`."""
        ...

    def send_body(self, data: bytes) -> None:
        """Send body bytes, never empty."""
        ...

    def end_reply(self, trailers: Headers) -> None:
        """The reply is complete."""
        ...

    def abort(self) -> None:
        """Break the reply off so that the caller can tell it from a complete one."""
        ...

    def upgrade(self, headers: Headers, protocol: bytes) -> Any:
        """Send 101 and hand over the raw transport: everything behind is a tunnel's."""
        ...


class Exchange:
    """One request and its reply."""

    __slots__ = (
        "attempts",
        "body_length",
        "body_limit",
        "body_received",
        "body_sent",
        "client",
        "client_port",
        "code",
        "context",
        "downstream",
        "expects_continue",
        "forwarding",
        "headers",
        "host",
        "http_version",
        "identity",
        "listener",
        "method",
        "params",
        "path",
        "peer",
        "peer_trusted",
        "query",
        "reason",
        "recorded",
        "request_id",
        "route",
        "scheme",
        "started",
        "state",
        "status",
        "target",
        "tls",
        "trace",
        "upgrade",
        "upstream_seconds",
        "verdicts",
        "via",
        "withheld",
    )

    def __init__(
        self,
        downstream: Downstream = None,  # type: ignore[assignment]
        listener: str = "",
        scheme: bytes = b"http",
        peer: str = "",
        tls: Any = None,
        request_id: bytes = b"",
        started: float = 0.0,
    ) -> None:
        self.downstream = downstream
        self.listener = listener
        self.method = b""
        self.scheme = scheme
        self.host = b""  # lower case, with its port if one was sent; b"" only for HTTP/1.0 without one
        self.path = b""  # normalised (`rfc.path`): what is matched is what is sent on
        self.query: bytes | None = None  # without "?"; None if there was none
        self.headers: Headers = []  # what is sent on
        self.withheld: Headers = []  # what is not: Host, hop-by-hop, framing and forwarding fields, underscore twins
        self.http_version = b"1.1"
        self.body_length = 0  # bytes, UNKNOWN_LENGTH if chunked, 0 if there is no body
        self.via = b""  # of the request, as received; b"" if it came straight from its origin
        self.expects_continue = False  # the caller waits for 100 (Continue) before it sends the body
        self.body_limit = 0  # bytes, 0 for none; policies may lower it
        self.upgrade = b""  # protocol asked for, lower case
        self.peer = peer  # address of the connection
        self.peer_trusted = False  # the connection comes from one of the listener's trusted proxies
        self.forwarding = b""  # X-Forwarded-* and Forwarded as the target gets them: lines, each with its CRLF
        self.client = peer  # address of the caller, trusted proxies looked through
        self.client_port = 0
        self.tls = tls  # `wire.tls.TlsFacts`, None without TLS
        self.request_id = request_id
        self.trace: Trace | None = None  # where it stands in a trace, if it does
        self.started = started  # monotonic seconds, when the head was complete
        self.route: Route | None = None
        self.identity: Identity | None = None  # who calls, once a policy has found out
        self.params: dict[str, bytes] | None = None  # the route's path parameters
        self.status = 0  # of the reply; 499 when the caller went away first
        self.code = ""  # problem code of a refusal made here
        self.reason = ""  # of an upstream failure
        self.verdicts: list[tuple[str, str]] | None = None  # (policy instance, "refused" | "observed" | "failed")
        self.context: dict[str, Any] | None = None  # what policies leave for later hooks, by instance name
        self.state: Any = None  # the handler's own
        self.target = ""  # address of the last target tried
        self.attempts = 0
        self.upstream_seconds = 0.0  # until the reply's head
        self.body_received = 0
        self.body_sent = 0
        self.recorded = False  # its call record is made: what happens from here on is not in it

    def note(self, instance: str, verdict: str) -> None:
        """Write down what the policy `instance` decided."""
        if self.verdicts is None:
            self.verdicts = []
        self.verdicts.append((instance, verdict))

    def start_reply(self, status: int, headers: Headers, length: int, first: bytes = b"") -> None:
        """Send the reply's head through the route's reply hooks, with the body's `first` bytes if there are some.

        Handlers answer here; `downstream.send_body` and `downstream.end_reply` follow. A reply that is at hand as a
        whole goes through `reply`.
        """
        self.status = status
        route = self.route
        if route is not None and route.reply and not self.pass_reply_hooks(headers):
            return
        headers.append((b"x-request-id", self.request_id))
        self.downstream.start_reply(status, headers, length, first)

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        """Send a whole reply through the route's reply hooks; nothing follows."""
        self.status = status
        route = self.route
        if route is not None and route.reply and not self.pass_reply_hooks(headers):
            return
        headers.append((b"x-request-id", self.request_id))
        self.downstream.reply(status, headers, length, body)

    def pass_reply_hooks(self, headers: Headers) -> bool:
        """Let the route's reply hooks change `headers`; False if one failed, and the reply is broken off."""
        assert self.route is not None
        try:
            for hook in self.route.reply:
                hook(self, headers)
        except Exception:
            _log.exception("a reply hook of route %s failed; the reply is broken off", self.route.name)
            self.reason = "reply_hook_failed"
            self.downstream.abort()
            return False
        return True
