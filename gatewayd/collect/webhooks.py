"""Webhooks: alerts as signed POSTs, as Standard Webhooks has them, kept in the store until they have arrived.

A delivery is written in the transaction that writes its alert, and deleted when somebody answered 2xx: whatever is
killed in between, it is sent, perhaps twice; `webhook-id` tells receivers. A signature is HMAC-SHA256 over
`<id>.<timestamp>.<body>` with the secret's bytes (https://www.standardwebhooks.com).
"""

from __future__ import annotations

# ruff: noqa: S608 - all SQL is made of constants of this project, values are parameters
import asyncio
import base64
import hashlib
import hmac
import json
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
from duckdb import DuckDBPyConnection

from gatewayd.collect.alert_book import Alert, Change
from gatewayd.collect.usual import stamp
from gatewayd.config.alerts import Webhook
from gatewayd.core.clock import Clock

MOST = 1_000
"""Deliveries that wait for one webhook; the oldest are given up for further ones."""
AT_ONCE = 20
"""Deliveries that are tried in one round, for each webhook."""
WAITS = (5, 60, 300, 1_800, 7_200, 18_000, 36_000)
"""Seconds until the next attempt, the last for all further ones."""
_GONE = 410
"""Whoever answers this wants nothing more (Standard Webhooks)."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    id VARCHAR, webhook VARCHAR, body VARCHAR, attempts UINTEGER, due TIMESTAMP, made TIMESTAMP)
"""
_LIMIT = f"""
DELETE FROM deliveries WHERE id IN (
    SELECT id FROM deliveries WHERE webhook = ? ORDER BY made DESC, id OFFSET {MOST}) RETURNING id
"""
_DUE = f"""
SELECT id, webhook, body, attempts FROM deliveries WHERE due <= ?
QUALIFY row_number() OVER (PARTITION BY webhook ORDER BY made, id) <= {AT_ONCE} ORDER BY webhook, made, id
"""

_log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """A message to a webhook."""

    id: str
    webhook: str
    body: str
    attempts: int
    """Those that failed."""


def sign(secret: str, identifier: str, timestamp: int, body: str) -> str:
    """The value of `webhook-signature`. `secret` is `whsec_` and base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    digest = hmac.digest(key, f"{identifier}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def shown(alert: Alert) -> dict[str, Any]:
    """An alert as JSON takes it."""
    resolved = None if alert.resolved_at is None else _rfc3339(alert.resolved_at)
    return {
        "id": alert.id,
        "at": _rfc3339(alert.at),
        "detector": alert.detector,
        "subject": alert.subject,
        "severity": alert.severity,
        "text": alert.text,
        "baseline": alert.baseline,
        "observed": alert.observed,
        "contributors": [each._asdict() for each in alert.contributors],
        "resolved_at": resolved,
    }


def _rfc3339(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")


def payload(change: Change, now: float) -> str:
    """The body of a message: `alert.opened`, `alert.raised` or `alert.resolved`."""
    return json.dumps({"type": f"alert.{change.kind}", "timestamp": _rfc3339(round(now)), "data": shown(change.alert)})


def put(cursor: DuckDBPyConnection, names: Iterable[str], changes: Iterable[Change], now: float) -> Counter[str]:
    """Leave messages about `changes` for the webhooks of these names; how many older ones were given up, by webhook."""
    changes = list(changes)
    given_up: Counter[str] = Counter()
    for name in names if changes else ():
        rows = [
            [f"msg_{uuid.uuid4().hex}", name, payload(change, now), stamp(now), stamp(now + index / 1e6)]
            for index, change in enumerate(changes)
        ]
        cursor.executemany("INSERT INTO deliveries VALUES (?, ?, ?, 0, ?, ?)", rows)
        dropped = len(cursor.execute(_LIMIT, [name]).fetchall())
        if dropped:
            given_up[name] = dropped
            _log.error(
                "webhook %s: older messages given up, for further ones: %d (more than %d wait)", name, dropped, MOST
            )
    return given_up


def wait_after(attempts: int) -> int:
    """Seconds to the next attempt after so many that failed."""
    return WAITS[min(attempts, len(WAITS)) - 1]


class Sender:
    """Sends what is due. `cursor` opens a connection to the store; None: there is none."""

    def __init__(self, cursor: Callable[[], DuckDBPyConnection | None], clock: Clock) -> None:
        self._cursor = cursor
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self.webhooks: Mapping[str, Webhook] = {}
        self.sent: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        """Attempts, by webhook."""
        self.given_up: Counter[str] = Counter()
        self._stopped = asyncio.Event()
        self._under_way: set[asyncio.Timeout] = set()

    async def round(self) -> int:
        """Try all that is due, each webhook at its own pace; how many were sent."""
        self._stopped.clear()
        waiting = await asyncio.to_thread(self._due)
        by_name: dict[str, list[Delivery]] = {}
        for each in waiting:
            by_name.setdefault(each.webhook, []).append(each)
        return sum(await asyncio.gather(*(self._send_all(name, each) for name, each in by_name.items())))

    def stop(self) -> None:
        """End a round that is under way: whoever takes long to answer does not hold a reload, or the end, up.

        What it was about to send is sent in the next one, and not counted as failed.
        """
        self._stopped.set()
        for attempt in self._under_way:
            if not attempt.expired():
                attempt.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send_all(self, name: str, deliveries: list[Delivery]) -> int:
        """Send in order; the first failure ends it: who does not answer need not be asked twenty times."""
        sent = 0
        for delivery in deliveries:
            webhook = self.webhooks.get(name)
            if webhook is None or self._stopped.is_set():  # it left the configuration meanwhile
                return sent
            status = await self._post(webhook, delivery)
            if not status and self._stopped.is_set():
                return sent
            if 200 <= status < 300:
                sent += 1
                self.sent[name] += 1
                await asyncio.to_thread(self._execute, "DELETE FROM deliveries WHERE id = ?", [delivery.id])
            else:
                await self._failed(webhook, delivery, status)
                return sent
        return sent

    async def _post(self, webhook: Webhook, delivery: Delivery) -> int:
        """The status of the reply; 0: there was none."""
        if self._session is None:
            unlimited = aiohttp.ClientTimeout(total=None)  # each webhook has its own
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=unlimited)
        timestamp = int(self._clock.wall())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "gatewayd",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(webhook.secret, delivery.id, timestamp, delivery.body),
        }
        body = delivery.body.encode()
        attempt = asyncio.timeout(webhook.timeout)
        try:
            async with attempt:
                self._under_way.add(attempt)
                async with self._session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as reply:
                    return reply.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return 0
        finally:
            self._under_way.discard(attempt)

    async def _failed(self, webhook: Webhook, delivery: Delivery, status: int) -> None:
        name, attempts = delivery.webhook, delivery.attempts + 1
        self.failed[name] += 1
        why = f"it answered {status}" if status else "it did not answer"
        if attempts >= webhook.attempts or status == _GONE:
            self.given_up[name] += 1
            _log.error("webhook %s: message %s is given up: %s, attempt %d", name, delivery.id, why, attempts)
            await asyncio.to_thread(self._execute, "DELETE FROM deliveries WHERE id = ?", [delivery.id])
            return
        wait = wait_after(attempts)
        _log.warning("webhook %s: %s; another attempt in %d s", name, why, wait)
        due = stamp(self._clock.wall() + wait)
        await asyncio.to_thread(self._postpone, delivery, attempts, due)

    def _postpone(self, delivery: Delivery, attempts: int, due: datetime) -> None:
        """Those behind it wait as long, so that order is kept."""
        self._execute("UPDATE deliveries SET attempts = ? WHERE id = ?", [attempts, delivery.id])
        self._execute("UPDATE deliveries SET due = greatest(due, ?) WHERE webhook = ?", [due, delivery.webhook])

    def _due(self) -> list[Delivery]:
        cursor = self._cursor()
        if cursor is None:
            return []
        try:
            known = list(self.webhooks)
            cursor.execute("DELETE FROM deliveries WHERE NOT list_contains(?::VARCHAR[], webhook)", [known])
            return [Delivery(*row) for row in cursor.execute(_DUE, [stamp(self._clock.wall())]).fetchall()]
        finally:
            cursor.close()

    def _execute(self, query: str, values: list[Any]) -> None:
        cursor = self._cursor()
        if cursor is not None:
            try:
                cursor.execute(query, values)
            finally:
                cursor.close()
