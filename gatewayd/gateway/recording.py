"""Which calls a worker records, and where: the recorder that a generation wants, or none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatewayd.config.model import Document
from gatewayd.core.clock import Clock
from gatewayd.core.state import StateError, make_folder, state_folder
from gatewayd.errors import ConfigError, Fault, GatewaydError
from gatewayd.observe.metrics import (
    AUDIT_DROPPED,
    AUDIT_FULL,
    AUDIT_LAG_MILLISECONDS,
    AUDIT_WRITTEN,
    WorkerMetrics,
)
from gatewayd.wire.outbox import Outbox

if TYPE_CHECKING:
    from gatewayd.audit.recorder import Recorder
    from gatewayd.gateway.pipeline import Pipeline


def faults(document: Document) -> list[Fault]:
    """Why calls cannot be recorded as `document` wants it; nothing is made."""
    if not document.audit.enabled:
        return []
    try:
        folder = state_folder(document)
    except StateError as error:
        return [Fault("audit.enabled", str(error))]
    there = folder
    while not there.exists():
        there = there.parent
    if os.access(there, os.W_OK | os.X_OK):
        return []
    return [Fault("audit.enabled", f"nothing can be written to the state directory {folder}")]


class Recording:
    """Opens a worker's recorder, gives it to the pipeline, and lets go of it."""

    def __init__(self, clock: Clock, outbox: Outbox, metrics: WorkerMetrics) -> None:
        self._clock = clock
        self._outbox = outbox
        self._metrics = metrics
        self._recorder: Recorder | None = None
        self._counted = (0, 0)

    def open(self, document: Document) -> Recorder | None:
        """The recorder that `document` wants: the present one, or a new one. Raises `ConfigError`."""
        if not document.audit.enabled:
            return None
        from gatewayd.audit.keys import load_signer
        from gatewayd.audit.recorder import Recorder

        try:
            state = make_folder(state_folder(document))
            if self._recorder is not None and self._recorder.state == state:
                return self._recorder
            return Recorder(document.audit, state, load_signer(state), self._clock)
        except OSError as error:
            raise ConfigError([Fault("audit.enabled", f"no call can be recorded: {error}")]) from error
        except GatewaydError as error:
            raise ConfigError([Fault("audit.enabled", str(error))]) from error

    def serve(self, recorder: Recorder | None, document: Document, generation: int, pipeline: Pipeline) -> None:
        """Have calls recorded by `recorder` from now on."""
        old, self._recorder = self._recorder, recorder
        pipeline.recorder = recorder
        self._outbox.before = None if recorder is None else recorder.commit
        if recorder is not None:
            recorder.configure(document.audit, generation)
        if old is not None and old is not recorder:
            old.close()
            self._counted = (0, 0)

    def tick(self, now: float) -> None:
        """From the sweep: `now` is monotonic seconds."""
        recorder = self._recorder
        if recorder is None:
            return
        recorder.tick(now)
        spool, metrics = recorder.spool, self._metrics
        written, dropped = self._counted
        metrics.count(AUDIT_WRITTEN, spool.written - written)
        metrics.count(AUDIT_DROPPED, spool.dropped - dropped)
        metrics.put(AUDIT_FULL, spool.full)
        metrics.put(AUDIT_LAG_MILLISECONDS, int(spool.lag * 1000))
        self._counted = (spool.written, spool.dropped)

    def close(self) -> None:
        """End the chain's segment."""
        self._outbox.before = None
        if self._recorder is not None:
            self.tick(self._clock.monotonic())
            self._recorder.close()
            self._recorder = None
