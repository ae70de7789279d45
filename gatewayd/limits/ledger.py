"""The ledger: the books of all quotas in a state directory, as one process keeps them.

Each process writes a column of its own, claimed by a lock that the kernel drops when the process ends, however it
ends. Whoever claims the column next counts on from what stands there. So it makes no difference how many workers there
are, were, or will be, nor whether two daemons, an old one and its successor, serve for a while side by side.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path

from gatewayd.core.policy import BuildContext
from gatewayd.core.state import StateError, make_folder, state_folder
from gatewayd.limits.book import COLUMNS, Book, BookDamaged, create, locked
from gatewayd.limits.calendar import Period

SYNC = 0.5
"""Seconds between two looks at what the disk does not have yet: with the time it takes, a second."""
KEPT = 7
"""Books of former periods that stay, beside the one of the present: clocks may be set back."""

_log = logging.getLogger(__name__)
_STAMP = "%Y%m%dT%H%M%SZ"


class Ledger:
    """The books in `<state>/quotas`. A thread of its own brings them to the disk, as long as the ledger lives."""

    def __init__(self, state: Path) -> None:
        """Claims a column. Raises `StateError`."""
        self.folder = make_folder(make_folder(state) / "quotas")
        self._books: weakref.WeakValueDictionary[str, Book] = weakref.WeakValueDictionary()
        self._new = False  # a file was made since the folder itself was brought to the disk
        try:
            self._lock = self._open("lock")
            weakref.finalize(self, os.close, self._lock)
            self.column = self._claim()
        except OSError as error:
            raise StateError(f"nothing can be written to {self.folder}: {error.strerror}") from error
        threading.Thread(target=_keep_synced, args=(weakref.ref(self),), name="quotas", daemon=True).start()

    @classmethod
    def of(cls, context: BuildContext) -> Ledger:
        """The one of this process, for the state directory of the configuration. Raises `StateError`."""
        state = state_folder(context.document)
        key = ("", f"ledger {state}")
        if key not in context.kept:
            context.kept[key] = cls(state)
        found: Ledger = context.kept[key]
        return found

    def book(self, instance: str, period: Period) -> Book:
        """The book of a quota for `period`, a new one if there is none.

        Raises `OSError`, `BookBusy`. A file that is damaged is set aside and said to be; its counts begin anew.
        """
        name = _name(instance, period)
        found = self._books.get(name)
        if found is None:
            with locked(self._lock):
                found = self._books[name] = self._opened(self.folder / name, period)
                self._tidy(instance, period)
        return found

    def sync(self) -> None:
        """Bring to the disk what is written to books in use. Blocks until it is there. Raises `OSError`."""
        if self._new:
            self._new = False
            _sync_folder(self.folder)
        for reference in self._books.valuerefs():
            book = reference()
            if book is not None and book.dirty:
                book.sync()

    def _open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _claim(self) -> int:
        for column in range(COLUMNS):
            descriptor = self._open(f"writer-{column}")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                weakref.finalize(self, os.close, descriptor)
                return column
        raise StateError(f"{COLUMNS} processes write to {self.folder}: there is no room for another")

    def _opened(self, path: Path, period: Period) -> Book:
        try:
            return Book(path, period, self.column)
        except FileNotFoundError:
            pass
        except BookDamaged as error:
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            _log.error("the counts in %s are lost: %s. It is now %s, and they begin anew", path, error, aside.name)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have cleared it away
        create(path, period)
        self._new = True
        return Book(path, period, self.column)

    def _tidy(self, instance: str, period: Period) -> None:
        """Remove books of an instance that are long over. What lies in the future stays: the clock has been there."""
        found = []
        for path in self.folder.glob(f"{instance}.*"):
            with contextlib.suppress(ValueError):
                its = _period(path.name.removeprefix(f"{instance}."))
                if its.end <= period.start:
                    found.append((its, path))
        for _, path in sorted(found)[:-KEPT]:
            path.unlink(missing_ok=True)


def _keep_synced(ledger: weakref.ref[Ledger]) -> None:
    """Until the ledger is gone: see that nothing stays off the disk for long."""
    failing = False
    while True:
        alive = ledger()
        if alive is None:
            return
        try:
            alive.sync()
            failing = False
        except OSError as error:
            if not failing:
                _log.error("quotas in %s are not safe from a power failure: %s", alive.folder, error.strerror)
            failing = True
        del alive
        time.sleep(SYNC)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(instance: str, period: Period) -> str:
    first, last = (datetime.fromtimestamp(each, UTC).strftime(_STAMP) for each in period)
    return f"{instance}.{first}-{last}"


def _period(name: str) -> Period:
    """The period in a book's name. Raises `ValueError` for any other name."""
    first, _, last = name.partition("-")
    return Period(*(int(datetime.strptime(each, _STAMP).replace(tzinfo=UTC).timestamp()) for each in (first, last)))
