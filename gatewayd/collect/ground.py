"""What detectors stand on: the store, the configuration, and names for what must not be named."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from cachetools import LRUCache
from duckdb import DuckDBPyConnection

from gatewayd.collect.baselines import Calendar
from gatewayd.collect.peaks import Peaks
from gatewayd.collect.usual import Usual
from gatewayd.config.model import Document

_LIFTED = 1_024


class Veil:
    """Keyed hashes of what could tell of a person: the same for the same value as long as this process lives.

    Alerts outlive the records they were made of; nobody can find out from one what has been erased there.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._lifted: LRUCache[str, str] = LRUCache(_LIFTED)

    def __call__(self, value: str) -> str:
        """Eight hexadecimal digits instead of `value`."""
        veiled = hashlib.blake2b(value.encode(), digest_size=4, key=self._key).hexdigest()
        self._lifted[veiled] = value
        return veiled

    def lift(self, veiled: str) -> str:
        """The value behind one of the last digits, to look for more of it; "" if it is forgotten."""
        return self._lifted.get(veiled, "")


@dataclass(frozen=True)
class Ground:
    """All that a detector may use. Only the thread that looks for alerts does."""

    cursor: DuckDBPyConnection
    document: Document
    calendar: Calendar
    usual: Usual
    peaks: Peaks
    aside: DuckDBPyConnection
    """Another cursor, for what may fail without harm: an error within a transaction is the end of it."""
    veil: Veil = field(default_factory=Veil)
    _first: LRUCache[str, float] = field(default_factory=lambda: LRUCache(10_000))

    def age(self, consumer: str, at: int) -> float:
        """Seconds from a consumer's first call that is remembered to `at`."""
        first = self._first.get(consumer)
        if first is None:
            query = "SELECT epoch(min(bucket)) FROM usual_1h WHERE kind = 'consumer' AND subject = ?"
            ((found,),) = self.cursor.execute(query, [consumer]).fetchall()
            if found is None:
                return 0.0
            first = self._first[consumer] = float(found)
        return at - first
