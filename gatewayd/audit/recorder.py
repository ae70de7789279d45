"""From an exchange that is over to its call record, and into the spool before its reply leaves.

On the path of every exchange: one tuple, one encoding, one sealing, one hash; 4 to 5 µs in all, the write shared with
whatever else ended in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec

from gatewayd.audit.keys import Signer
from gatewayd.audit.masking import masking, pseudonyms
from gatewayd.audit.record import CAPTURED, Operation
from gatewayd.audit.sealing import Sealing
from gatewayd.audit.spool import Spool
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.config.model import Audit
from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Reply
from gatewayd.core.problem import problem

AGENT_LIMIT = 256
"""Bytes of User-Agent on record."""
UNAVAILABLE = problem(503, "audit_unavailable", "calls cannot be put on record at present", ((b"retry-after", b"5"),))
"""What calls are refused with while they cannot be recorded (`on_full = "refuse"`)."""

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode


def encoded(operation: Operation) -> msgspec.Raw:
    """An operation as it goes into each of its records."""
    return msgspec.Raw(_encode(operation))


class Recorder:
    """Records one worker's calls: `ended` takes what is over, `commit` comes before anything is written to callers."""

    def __init__(self, config: Audit, state: Path, signer: Signer, clock: Clock) -> None:
        """Raises `OSError`, `BrokenChain`."""
        self.ended: list[tuple[Exchange, float]] = []
        """Exchanges that are over, and the monotonic second of it."""
        self.refusal: Reply | None = None
        """What calls get that cannot be recorded; None while they can."""
        self.spool = Spool(config, state, signer, clock)
        self.state = state
        self._clock = clock
        self._sealing = Sealing(SubjectKeys(state), clock.wall())
        self._pseudonym = pseudonyms(signer.pseudonyms)
        self._signing: asyncio.TimerHandle | None = None
        self.configure(config, 0)

    def configure(self, config: Audit, generation: int) -> None:
        """Go by `config` from now on."""
        self.spool.config = config
        self._mask = masking(config.addresses)
        self._seal = self._sealing.seal if config.seal else None
        self._nobody = encoded(Operation(generation=generation))
        self.tick(self._clock.monotonic())

    def commit(self) -> None:
        """Hand what has ended to the spool. Never raises."""
        if not self.ended:
            return
        ended, self.ended = self.ended, []
        if self.refusal is not None:
            ended = self._without_refused(ended)
            if not ended:
                return
        try:
            records = [self._record(exchange, now) for exchange, now in ended]
        except Exception:
            _log.exception("a call could not be recorded")
            records = self._each(ended)
        if not self.spool.write(records):
            self._unwritten(ended)
        elif self._signing is None:
            interval = self.spool.config.commit_interval
            self._signing = asyncio.get_running_loop().call_later(interval, self._sign)

    def tick(self, now: float) -> None:
        """What is to be done now and then. `now`: monotonic seconds."""
        wall = self._clock.wall()
        self._ahead = wall - self._clock.monotonic()
        self._sealing.tick(wall)
        self.commit()
        self.spool.tick(now)
        refuses = self.spool.full and self.spool.config.on_full == "refuse"
        self.refusal = UNAVAILABLE if refuses else None

    def close(self) -> None:
        """Record what has ended, and end the segment."""
        self.commit()
        if self._signing is not None:
            self._signing.cancel()
        self.spool.close()

    def _sign(self) -> None:
        self._signing = None
        self.spool.commit()

    def _unwritten(self, ended: list[tuple[Exchange, float]]) -> None:
        """Strictly, nobody gets a reply that is not on record."""
        config = self.spool.config
        if config.on_full == "refuse":
            self.refusal = UNAVAILABLE
            if config.mode == "strict":
                for exchange, _ in ended:
                    exchange.downstream.abort()

    def _without_refused(self, ended: list[tuple[Exchange, float]]) -> list[tuple[Exchange, float]]:
        """Those that were let in. Of calls refused for want of a record the chain tells how many they were, no more:
        else whoever goes on asking would fill the memory that those let in need."""
        kept = [each for each in ended if each[0].code != UNAVAILABLE.code]
        self.spool.leave_out(len(ended) - len(kept))
        return kept

    def _each(self, ended: list[tuple[Exchange, float]]) -> list[bytes]:
        """Records one by one, without those that cannot be made: they count as dropped."""
        records = []
        for exchange, now in ended:
            try:
                records.append(self._record(exchange, now))
            except Exception:
                self.spool.dropped += 1
        return records

    def _record(self, exchange: Exchange, now: float) -> bytes:
        route = exchange.route
        identity = exchange.identity
        caller = None
        if identity is not None:
            consumer = identity.consumer
            tenant = consumer.labels.get("tenant", "") if consumer.labels else ""
            caller = (consumer.id, identity.credential, identity.method, consumer.plan, tenant)
        tls = exchange.tls
        trace = exchange.trace
        started = exchange.started
        personal: tuple[Any, ...] | None = self._personal(exchange)
        sealed = None
        if self._seal is not None:
            sealed = self._seal("" if identity is None else identity.consumer.id, _encode(personal))
            personal = None
        return _encode(
            (
                int((started + self._ahead) * 1e9),
                exchange.request_id,
                self._nobody if route is None or route.operation is None else route.operation,
                caller,
                exchange.method,
                exchange.status,
                exchange.code,
                exchange.reason,
                exchange.verdicts,
                exchange.target,
                exchange.attempts,
                int((now - started) * 1e6),
                int(exchange.upstream_seconds * 1e6),
                exchange.body_received,
                exchange.body_sent,
                exchange.listener,
                exchange.scheme,
                exchange.host,
                exchange.http_version,
                None if tls is None else tls.recorded or _facts(tls),
                None if trace is None else (trace.trace_id, trace.span_id, trace.parent_id, trace.sampled, trace.state),
                personal,
                sealed,
            )
        )

    def _personal(self, exchange: Exchange) -> tuple[Any, ...]:
        """The fields of `record.Personal`."""
        agent = ""
        for name, value in exchange.headers:
            if name == b"user-agent":
                agent = value[:AGENT_LIMIT].decode("latin-1")
                break
        client, peer = exchange.client, exchange.peer
        params = exchange.params
        return (
            self._mask(client),
            "" if peer == client else self._mask(peer),
            [self._pseudonym(value) for value in params.values()] if params else (),
            agent,
            exchange.context.get(CAPTURED) if exchange.context is not None else None,
        )


def _facts(tls: Any) -> tuple[str, str, str]:
    """The fields of `record.Tls`, worked out once per connection."""
    tls.recorded = facts = (tls.version, tls.cipher, tls.client_fingerprint.hex())
    return facts
