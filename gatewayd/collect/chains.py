"""All chains of calls of a state directory, read side by side, as far as known in the order of their calls."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from gatewayd.audit.keys import FOLDER, Signer
from gatewayd.audit.reading import BrokenChain
from gatewayd.audit.segments import CALLS
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.collect.following import START, Follower, Position
from gatewayd.collect.rows import Batch, Decoding
from gatewayd.core.clock import Clock

GRACE: Final = 10.0
"""Seconds by which calls may come late before that costs more: `rollups` says how."""
RETRY: Final = 30.0
"""Seconds after which a chain that broke or cannot be read is looked at again."""
MEASURE_EVERY: Final = 1.0

_log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """Records of one chain that stand behind one another, ready to be added."""

    chain: str
    batch: Batch
    behind: Position
    """Where the chain goes on."""


class Look(NamedTuple):
    """What came next."""

    piece: Piece | None
    """None: nothing, at present."""
    closed: float
    """`Chains.closed`, before the piece was read if there is one."""


class Figures:
    """What was done. Each number has one thread that writes it; any may read."""

    def __init__(self) -> None:
        self.records = 0
        self.unreadable = 0
        self.missing = 0
        """Records that gaps, or segments that are gone, took with them."""
        self.breaks = 0
        """How often a chain was found to be broken."""
        self.failures = 0
        self.unread = 0
        """How often a segment could not be read."""
        self.cpu = 0.0
        """Seconds."""
        self.broken = 0
        """Chains that stand still for they are broken."""
        self.behind = 0
        """Bytes that are not read yet."""
        self.oldest = 0.0
        """When the call came that was read last of the chain that is behind most, Unix time; 0: none is behind."""

    def add(self, other: Figures) -> None:
        """Count what another counted, too."""
        for name in ("records", "unreadable", "missing", "breaks", "failures", "unread", "cpu"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Chains:
    """All chains of calls of a state directory, read in the order of their calls as far as that is known."""

    def __init__(self, state: Path, signer: Signer | None, keys: SubjectKeys, clock: Clock, figures: Figures) -> None:
        self.decoding = Decoding(keys.open)
        self._folder = state / FOLDER
        self._signer = signer
        self._keys = keys
        self._clock = clock
        self._figures = figures
        self._positions: dict[str, Position] = {}
        self._chains: dict[str, _Chain] = {}
        self._measured = 0.0

    def start(self, positions: dict[str, Position]) -> None:
        """Begin at these positions, chains that are not among them at their first segment."""
        self.close()
        self._positions = positions
        self.decoding = Decoding(self._keys.open)

    def close(self) -> None:
        """Let go of all files."""
        for chain in self._chains.values():
            self._account(chain)
            chain.follower.close()
        self._chains = {}

    def look(self) -> Look:
        """What comes next, of the chain that is behind most. Raises what opening seals does: `OSError`."""
        self._find()
        self._measure()
        for chain in sorted(self._chains.values(), key=lambda chain: chain.at):
            closed = self.closed()
            piece = self._read(chain)
            if piece is not None:
                return Look(piece, closed)
        return Look(None, self.closed())

    def closed(self) -> float:
        """Second since the epoch before which all calls were read, save late ones."""
        late = [chain.at for chain in self._chains.values() if not chain.idle]
        return min(late, default=self._clock.wall()) - GRACE

    def _find(self) -> None:
        """Chains come when workers do."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith(CALLS) and name not in self._chains:
                follower = Follower(self._folder / name, self._signer, self._positions.get(name, START))
                self._chains[name] = _Chain(follower)

    def _read(self, chain: _Chain) -> Piece | None:
        now = self._clock.monotonic()
        if now < chain.retry:
            return None
        chain.idle = True
        try:
            found = chain.follower.read()
            chain.broken = False
        except BrokenChain:
            chain.broken = True
            chain.retry = now + RETRY
            return None
        except OSError as error:
            _log.error("the audit's %s cannot be read: %s", chain.follower.name, error)
            self._figures.unread += 1
            chain.retry = now + RETRY
            return None
        finally:
            self._account(chain)
        if found is None:
            return None
        self._keys.refresh()
        batch = self.decoding.batch(found.bodies, found.numbers)
        if batch.rows:
            chain.at = float(batch.lines["at"][-1].astype(np.int64)) / 1e6
        chain.idle = False
        return Piece(chain.follower.name, batch, chain.follower.position)

    def _account(self, chain: _Chain) -> None:
        follower, figures = chain.follower, self._figures
        figures.missing += follower.missing
        figures.breaks += follower.breaks
        follower.missing = follower.breaks = 0
        figures.broken = sum(each.broken for each in self._chains.values())

    def _measure(self) -> None:
        now = self._clock.monotonic()
        if now - self._measured >= MEASURE_EVERY:
            self._measured = now
            late = [chain for chain in self._chains.values() if not chain.idle]
            self._figures.behind = sum(chain.follower.behind() for chain in late)
            self._figures.oldest = min((chain.at for chain in late), default=0.0)


class _Chain:
    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.at = 0.0  # of the last call read, seconds since the epoch
        self.idle = False  # the last look found nothing
        self.broken = False
        self.retry = 0.0
