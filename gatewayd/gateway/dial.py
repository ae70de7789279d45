"""Opening connections to targets: for the pools, and for the probes of active health checks."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from gatewayd.config import model
from gatewayd.core.descriptors import last_for_targets
from gatewayd.core.exchange import Headers
from gatewayd.errors import OUT_OF_DESCRIPTORS, UpstreamError
from gatewayd.upstream.pool import Pool
from gatewayd.upstream.target import Target
from gatewayd.wire.heads import ReplyHead
from gatewayd.wire.outbox import Outbox
from gatewayd.wire.tls import server_name, upstream_context
from gatewayd.wire.upstream import UpstreamConnection

ConnectionPool = Pool[UpstreamConnection]


class Dialler:
    """How one upstream's targets are reached. Raises `ConfigError` when made, if a TLS file is no good."""

    def __init__(self, config: model.Upstream, limits: model.Limits, timeout: float, outbox: Outbox) -> None:
        """`timeout`: seconds for one dial, TLS handshake included."""
        self._config = config
        self._limits = limits
        self._timeout = timeout
        self._outbox = outbox
        self._last_descriptor = last_for_targets()
        self._context: ssl.SSLContext | None = upstream_context(config.tls) if config.tls is not None else None

    def pool(self, target: Target) -> ConnectionPool:
        """A pool of connections to `target`."""
        return Pool(self._config.pool, self.dial_for(target))

    def dial_for(self, target: Target) -> Callable[[ConnectionPool], Coroutine[Any, Any, UpstreamConnection]]:
        """What a pool opens connections to `target` with."""

        async def dial(pool: ConnectionPool) -> UpstreamConnection:
            return await self.connect(target, pool.free, pool.lost)

        return dial

    async def connect(
        self,
        target: Target,
        on_free: Callable[[UpstreamConnection], None],
        on_lost: Callable[[UpstreamConnection], None],
    ) -> UpstreamConnection:
        """A new connection; raises `UpstreamError` (502 `connect_failed` or `tls_failed`, 504 `connect_timeout`).

        503 `out_of_descriptors` is no target's fault.
        """
        limits = self._limits
        connection = UpstreamConnection(on_free, on_lost, limits.reply_head, limits.reply_headers, self._outbox)
        try:
            async with asyncio.timeout(self._timeout):
                await self._open(connection, target)
        except TimeoutError:
            raise UpstreamError(504, "connect_timeout", "always", target.address) from None
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise UpstreamError(502, "tls_failed", "always", f"{target.address}: {error}") from None
        except (OSError, ValueError) as error:
            if getattr(error, "errno", 0) in (errno.EMFILE, errno.ENFILE):
                raise UpstreamError(503, OUT_OF_DESCRIPTORS) from None
            raise UpstreamError(502, "connect_failed", "always", f"{target.address}: {error}") from None
        if connection.transport.get_extra_info("socket").fileno() > self._last_descriptor:
            connection.discard()
            raise UpstreamError(503, OUT_OF_DESCRIPTORS)
        return connection

    async def _open(self, connection: UpstreamConnection, target: Target) -> None:
        loop = asyncio.get_running_loop()
        tls = self._config.tls
        name = (server_name(tls, target.host) or None) if tls is not None else None  # uvloop hangs on ""
        if target.path:
            await loop.create_unix_connection(lambda: connection, target.path, ssl=self._context, server_hostname=name)
        else:
            await loop.create_connection(
                lambda: connection, target.ip, target.port, ssl=self._context, server_hostname=name
            )

    async def probe(self, target: Target, health: model.ActiveHealth) -> int:
        """Ask for `health.path` on a connection of its own; returns the status. Raises `UpstreamError`."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        connection = await self.connect(target, lambda connection: None, lambda connection: None)
        if connection.closed:
            raise UpstreamError(502, "closed_before_reply")
        host = health.host or ("localhost" if target.path else target.address)
        head = f"GET {health.path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: gatewayd-health\r\nconnection: close\r\n\r\n"
        try:
            connection.send_request(head.encode(), _ProbeReceiver(ended), b"GET", True)
            return await ended
        finally:
            connection.drop()


class _ProbeReceiver:
    """Waits for a reply's status; its body does not matter."""

    def __init__(self, ended: asyncio.Future[int]) -> None:
        self._ended = ended

    def reply_informs(self, status: int, headers: Headers) -> None:
        """Not of interest."""

    def reply_head(self, head: ReplyHead, first: bytes, complete: bool) -> None:
        """This is what was waited for."""
        if not self._ended.done():
            self._ended.set_result(head.status)

    def reply_body(self, data: bytes) -> None:
        """Not of interest."""

    def reply_end(self, trailers: Headers) -> None:
        """Not of interest."""

    def reply_upgrade(self, head: ReplyHead, rest: bytes) -> None:
        """An answer all the same."""
        if not self._ended.done():
            self._ended.set_result(head.status)

    def reply_failed(self, error: UpstreamError) -> None:
        """The probe failed."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def pause_request(self) -> None:
        """A probe's request fits any buffer."""

    def resume_request(self) -> None:
        """A probe's request fits any buffer."""
