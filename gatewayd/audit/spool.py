"""A worker's own chain of records on disk: appended to before replies leave, made durable soon after, or before.

`write` hands records to the kernel in one `write(2)`: from then on no kill of a process loses them. In mode `strict` it
returns once they are on the disk, too; in mode `batched` that is `commit`'s, which also signs what stands so far. Both
are to be called from one thread; what waits for the disk there is done in another (`audit.syncing`).

A disk that takes no more leaves the chain as it was and the spool `full`, with what could not be written kept in memory
up to `BACKLOG` bytes. What becomes of calls then is the pipeline's to say. What is dropped is counted, and leaves a gap
that the chain itself tells of.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gatewayd.audit.chain import Chain
from gatewayd.audit.keys import FOLDER, Signer, sync_folder
from gatewayd.audit.segments import Found, hold_calls, segment_path
from gatewayd.audit.syncing import Syncing
from gatewayd.config.model import Audit
from gatewayd.core.clock import Clock

BACKLOG = 4 * 1024 * 1024
"""Bytes of records kept in memory while they cannot be written."""
PIECE = 64
"""Records of the backlog that are written at once: as many as there is room for, then."""
COMPLAIN_EVERY = 60.0
"""Seconds between two messages about a disk that takes no records."""
MEASURE_EVERY = 5.0
"""Seconds between two looks at how much all chains take (`audit.limit`)."""

_log = logging.getLogger(__name__)


class Spool:
    """The chain of calls that this process writes."""

    def __init__(self, config: Audit, state: Path, signer: Signer, clock: Clock) -> None:
        """Takes a chain that no process holds, and goes on where it ended. Raises `OSError`, `BrokenChain`."""
        self.config = config
        self.full = False
        """Whether nothing can be written at present."""
        self.written = 0
        """Records handed to the kernel by this process."""
        self.dropped = 0
        """Records lost for want of room."""
        self._clock = clock
        self._audit = state / FOLDER
        self.folder, self._lock = hold_calls(state)
        found = Found(self.folder, signer)
        self._chain = Chain(self.folder.name, signer, found.segment, found.previous, found.records)
        self._syncing = Syncing()
        self._descriptor = -1
        self._size = 0  # bytes of the segment
        self._stands = (found.previous, found.records)  # the chain's, behind them
        self._begun = 0.0
        self._unsigned = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lost = 0  # behind what waits
        self._complained = -COMPLAIN_EVERY
        self._measured = -MEASURE_EVERY
        self._open(self._chain.open(self._now(), found.before))
        self.tick(clock.monotonic())

    @property
    def name(self) -> str:
        """The chain's."""
        return self._chain.name

    @property
    def records(self) -> int:
        """Records of the chain, gaps included."""
        return self._chain.records

    @property
    def lag(self) -> float:
        """Seconds for which the disk has owed us the oldest record."""
        return self._syncing.lag(self._clock.monotonic())

    def write(self, records: Sequence[bytes]) -> bool:
        """Hand records to the kernel, in mode `strict` to the disk. False if they only wait in memory, or are lost."""
        if self.full or self._waiting or not self._append(records):
            self._keep(records)
            return False
        durable = self.config.mode != "strict" or self._sync_now()
        if self._size >= self.config.segment_size:
            self._turn()
        return durable

    def leave_out(self, count: int) -> None:
        """So many calls have no record: the chain will tell that they are missing."""
        self._lost += count
        self.dropped += count

    def commit(self) -> None:
        """Sign what stands so far and have it put on the disk."""
        if self.full:
            return
        if self._unsigned and self._put(self._chain.head(self._now())):
            self._unsigned = False
        self._syncing.sync(self._descriptor)

    def tick(self, now: float) -> None:
        """Try again what could not be written; end a segment that is due. `now`: monotonic seconds."""
        if now - self._measured >= MEASURE_EVERY:
            self._measured = now
            self._measure()
        if self.full or self._lost:
            self._try_again()
        elif now - self._begun >= self.config.segment_age and self._unsigned:
            self._turn()
        if self._syncing.failed:
            self._syncing.failed = False
            self._fail(OSError(0, "the disk reports an error"))

    def close(self) -> None:
        """End the segment, and wait until all of it is on the disk."""
        if self._waiting:
            self.full = False
            self._try_again()
        if self._descriptor >= 0:
            self._put(self._chain.head(self._now(), end=True))
            self._syncing.finish(self._descriptor)
        self._syncing.close()
        os.close(self._lock)

    def _append(self, records: Sequence[bytes]) -> bool:
        if not self._put(self._chain.append(records)):
            return False
        self.written += len(records)
        self._unsigned = True
        self._syncing.due(self._clock.monotonic())
        return True

    def _sync_now(self) -> bool:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _put(self, data: bytes) -> bool:
        """Write `data`, which the chain just made, behind what stands; or leave both as they were."""
        chain = self._chain
        try:
            done = os.write(self._descriptor, data)
            if done < len(data):
                os.write(self._descriptor, data[done:])  # it tells why
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            chain.previous, chain.records = self._stands
            self._fail(error)
            return False
        self._size += len(data)
        self._stands = chain.previous, chain.records
        return True

    def _turn(self) -> None:
        """End the segment and go on in the next, now or, if none can be made, once one can."""
        if self._put(self._chain.head(self._now(), end=True)):
            self._syncing.finish(self._descriptor)
            self._descriptor = -1
            self._open_next()

    def _open_next(self) -> bool:
        """Make the next segment's file with its opening."""
        chain = self._chain
        segment = chain.segment
        try:
            self._open(chain.open(self._now()))
        except OSError as error:
            chain.segment = segment
            chain.previous, chain.records = self._stands
            self._fail(error)
            return False
        return True

    def _open(self, opening: bytes) -> None:
        path = segment_path(self.folder, self._chain.segment)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, opening) < len(opening):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            os.unlink(path)
            raise
        self._descriptor, self._size = descriptor, len(opening)
        self._stands = self._chain.previous, self._chain.records
        self._begun = self._clock.monotonic()
        self._unsigned = False

    def _keep(self, records: Sequence[bytes]) -> None:
        for record in records:
            if self._waiting_bytes + len(record) > BACKLOG:
                self._lost += 1
                self.dropped += 1
            else:
                self._waiting.append(record)
                self._waiting_bytes += len(record)

    def _try_again(self) -> None:
        if self._measure() or (self._descriptor < 0 and not self._open_next()):
            return
        while self._waiting:
            piece = self._waiting[:PIECE]
            if not self._append(piece):
                return
            del self._waiting[:PIECE]
            self._waiting_bytes -= sum(map(len, piece))
        if self._lost:
            if not self._put(self._chain.gap(self._now(), self._lost) + self._chain.append(())):
                return
            self._lost = 0
        if self.full:
            self.full = False
            _log.warning("the audit can be written again; %d records were lost so far", self.dropped)

    def _measure(self) -> bool:
        """Whether all chains together take more than `audit.limit`."""
        limit = self.config.limit
        if not limit or total_size(self._audit) < limit:
            return False
        self._fail(OSError(0, f"the segments take more than audit.limit, {limit} bytes"))
        return True

    def _fail(self, error: OSError) -> None:
        self.full = True
        now = self._clock.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            _log.error("the audit cannot be written (%s); on_full = %r", error.strerror, self.config.on_full)

    def _now(self) -> int:
        return int(self._clock.wall() * 1e9)


def total_size(folder: Path) -> int:
    """Bytes of all segments below `folder`."""
    return sum(path.stat().st_size for path in folder.glob("*/*.seg"))
