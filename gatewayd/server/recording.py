"""What is done to the daemon goes on record (`audit.actions`), where `audit.enabled`: starts and stops, reloads,
upgrades, purges. Nothing waits for that longer than it takes, and only a purge depends on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gatewayd.audit.actions import ActionError, act
from gatewayd.audit.keys import SigningKeyError, load_signer
from gatewayd.config.model import Document
from gatewayd.core.state import StateError, state_folder
from gatewayd.errors import Fault

PATIENCE = 2.0
"""Seconds that other processes get to finish what they put on record."""
Told = dict[str, Any]
_log = logging.getLogger(__name__)


class Recording:
    """Puts actions on record, in a thread. `recorded` and `failed` count them."""

    def __init__(self) -> None:
        self.recorded = 0
        self.failed = 0

    async def record(
        self,
        document: Document,
        action: str,
        actor: str,
        *,
        target: str = "",
        told: Callable[[Path], tuple[Any, Any]] = lambda state: (None, None),
        generation: int = 0,
        needed: bool = False,
    ) -> None:
        """Put an action on record; `told` makes what was before and after, given the state directory.

        A failure is logged and counted. Raises `ActionError` for one that is `needed` where `audit.on_full` is
        "refuse".
        """
        if not document.audit.enabled:
            return

        def run() -> None:
            state = state_folder(document)
            before, after = told(state)
            made = {"target": target, "before": before, "after": after, "generation": generation}
            act(state, action, actor=actor, patience=PATIENCE, **made)

        try:
            await asyncio.to_thread(run)
            self.recorded += 1
        except (ActionError, StateError, SigningKeyError) as error:
            self.failed += 1
            _log.error("audit: %s", error)
            if needed and document.audit.on_full == "refuse":
                raise ActionError(f"refused, for it cannot be put on record: {error}") from None

    def status(self) -> Told:
        """How it went so far."""
        return {"recorded": self.recorded, "failed": self.failed}


def configured(generation: int, packed: bytes) -> Callable[[Path], tuple[Any, Any]]:
    """What is told of the first generation, a document in its raw form as msgpack."""
    return lambda state: (None, {"generation": generation, "digest": _digest(state, packed)})


def reloaded(generation: int, before: bytes, after: bytes) -> Callable[[Path], tuple[Any, Any]]:
    """What is told of a reload that made `generation`: digests, and which tables are others."""

    def told(state: Path) -> tuple[Told, Told]:
        old, new = msgspec.msgpack.decode(before), msgspec.msgpack.decode(after)
        changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        was = {"generation": generation - 1, "digest": _digest(state, before)}
        return was, {"generation": generation, "digest": _digest(state, after), "changed": changed}

    return told


def refused(generation: int, faults: Sequence[Fault]) -> Callable[[Path], tuple[Any, Any]]:
    """What is told of a reload that failed: where the faults are, not what stands there."""
    places = sorted({fault.path for fault in faults})
    return lambda state: ({"generation": generation}, {"generation": generation, "faults": places})


def _digest(state: Path, packed: bytes) -> str:
    """The same for the same document, and to nobody without the key of any use in guessing what secrets it has."""
    return hashlib.blake2b(packed, key=load_signer(state).pseudonyms, digest_size=16).hexdigest()
