"""The control process's part in the audit: anchors on record every few minutes, old segments retired, and the anchor
of the moment for whoever keeps it elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gatewayd.audit.actions import ActionError, anchor
from gatewayd.audit.anchors import Anchor, export, heads
from gatewayd.audit.keys import SigningKeyError
from gatewayd.audit.retention import Ingested, go, nobody
from gatewayd.audit.segments import ACTIONS
from gatewayd.config.model import Audit, Document
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.state import state_folder
from gatewayd.core.tasks import spawn

EVERY = 300.0
"""Seconds between two anchors, and between two looks for segments that are old."""
ACTOR = "gatewayd"
_log = logging.getLogger(__name__)


class Retention:
    """A `Part`. `ingested` is told a chain and says which of its segments whoever reads along still needs."""

    def __init__(self, ingested: Ingested = nobody, clock: Clock | None = None, every: float = EVERY) -> None:
        self._ingested = ingested
        self._clock = clock or SystemClock()
        self._every = every
        self._config = Audit()
        self._state: Path | None = None
        self._turning: asyncio.Task[None] | None = None
        self._anchored = 0.0
        self._last: list[Anchor] = []
        self._retired = self._failed = 0
        self._broken: tuple[str, ...] = ()

    def routes(self) -> Iterable[web.RouteDef]:
        """`GET /v1/audit/anchor`."""
        return [web.get("/v1/audit/anchor", self.anchor)]

    def operations(self) -> dict[str, Any]:
        """The same for OpenAPI."""
        text = "The last signed frame of every chain, to be kept where who can write here cannot write."
        answer = {
            "description": "An anchor, as `gatewayd audit export` prints it.",
            "content": {"application/json": {}},
        }
        refusal = {"description": "`audit.enabled` is false."}
        return {
            "/v1/audit/anchor": {
                "get": {"operationId": "auditAnchor", "summary": text, "responses": {"200": answer, "404": refusal}}
            }
        }

    def families(self) -> Iterable[Metric]:
        """When an anchor was put on record last, what was retired, what could not be."""
        if self._state is None:
            return
        text = "When the chains' ends were put on record last, Unix time; 0: not since the start."
        yield GaugeMetricFamily("gatewayd_audit_anchored_timestamp_seconds", text, value=self._anchored)
        yield CounterMetricFamily("gatewayd_audit_retired_segments", "Segments gone by age.", value=self._retired)
        text = "Chains of which a segment that should go is broken, and stays."
        yield GaugeMetricFamily("gatewayd_audit_broken_chains", text, value=len(self._broken))
        text = "Rounds of anchors and retention that failed."
        yield CounterMetricFamily("gatewayd_audit_rounds_failed", text, value=self._failed)

    async def apply(self, document: Document) -> None:
        """Go by `document` from now on."""
        self._config = document.audit
        self._state = state_folder(document) if document.audit.enabled else None
        if self._state is not None and self._turning is None:
            self._turning = spawn(self._keep_turning(), "audit retention")

    async def close(self) -> None:
        """Stop."""
        if self._turning is not None:
            self._turning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._turning

    async def anchor(self, _: web.Request) -> web.Response:
        """The anchor of the moment; 404 where nothing is recorded."""
        if self._state is None:
            raise web.HTTPNotFound(text="audit.enabled is false")
        found = await asyncio.to_thread(export, self._state)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def turn(self) -> None:
        """One round, in a thread."""
        if self._state is not None:
            await asyncio.to_thread(self._turn, self._state, self._config)

    async def _keep_turning(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.turn()

    def _turn(self, state: Path, config: Audit) -> None:
        try:
            self._anchor(state)
            outcome = go(config, state, self._clock.wall(), self._ingested)
        except (ActionError, SigningKeyError, OSError) as error:
            self._failed += 1
            _log.error("audit: %s", error)
            return
        self._retired += outcome.retired
        for text in set(outcome.broken) - set(self._broken):
            _log.error("audit: %s; `gatewayd audit verify` says more", text)
        self._broken = outcome.broken

    def _anchor(self, state: Path) -> None:
        """Put the chains' ends on record, if they are others than before."""
        found = [each for each in heads(state) if each.chain != ACTIONS]
        if found and found != self._last:
            anchor(state, found, actor=ACTOR)
            self._last = found
        self._anchored = self._clock.wall()
