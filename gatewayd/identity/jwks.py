"""Where an issuer's keys come from, and when they are asked for again.

Nothing runs on its own: a token that has to be checked is what notices that keys are due. They are then fetched beside
it, and it is checked with those at hand; only where there are none, where the gateway has idled for long, or where the
token names a key nobody has heard of, an exchange waits. Whatever asks, each worker fetches at most so often a minute,
once for all that wait, so that made-up key names cannot turn the gateway against the issuer.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from gatewayd.identity.fetch import LIMIT, FetchError, Shared, fetch, is_url
from gatewayd.identity.jose import Refused, members
from gatewayd.identity.jwk import KeySet, key_set

_log = logging.getLogger(__name__)

Read = Callable[[], Coroutine[Any, Any, KeySet]]
"""Gets the keys. Raises `FetchError` or `Refused`."""

RETRY = 10.0
"""Seconds to the next attempt after several that failed; it takes 1, 2, 4, 8 to come to that."""
UNKNOWN = 60.0
"""Seconds for which a key name that a fetch did not bring is not asked for again."""
UNKNOWN_NAMES = 1024
"""Such names remembered; they come from callers."""
_LONGEST_NAME = 256
_WELL_KNOWN = "/.well-known/openid-configuration"


class Timing(NamedTuple):
    """How often keys are fetched. Seconds."""

    refresh: float = 300.0
    stale: float = 6 * 3600.0
    """The age beyond which keys are not used if no newer ones can be had."""
    per_minute: int = 6
    """Fetches at most, per worker."""


class KeySource:
    """The keys of an issuer as this worker knows them."""

    def __init__(self, name: str, read: Read | None, timing: Timing, monotonic: Callable[[], float]) -> None:
        """`name` is for logs. Without `read` the keys are those that `take` is given, for ever."""
        self.keys = KeySet(())
        self.due = -math.inf if read is not None else math.inf  # monotonic; a fetch that fails moves it, too
        self.rounds = 0  # fetches that are over
        self._name = name
        self._read = read
        self._timing = timing
        self._monotonic = monotonic
        self._expire = -math.inf if read is not None else math.inf
        self._fetches: deque[float] = deque(maxlen=timing.per_minute)  # when the last ones began
        self._failures = 0  # in a row
        self._rest_until = -math.inf  # after a failure
        self._unknown: dict[tuple[str | None, str], float] = {}
        self._flight: Shared[None] = Shared()

    @property
    def usable(self) -> bool:
        """Whether there are keys, and not too old ones."""
        return self._monotonic() < self._expire

    @property
    def until(self) -> float:
        """Monotonic seconds until which a verdict by the present keys may be remembered."""
        return min(self.due, self._expire)

    def ready(self) -> bool:
        """Whether the keys at hand will do; if they are due they are fetched beside it. If not: `wait`."""
        now = self._monotonic()
        if now < self.due:
            return now < self._expire
        fetching = self.begin()
        # Nobody has asked for a whole period: what was taken back meanwhile must not pass.
        idle = now >= self.due + self._timing.refresh
        return now < self._expire and not (idle and fetching)

    def begin(self) -> bool:
        """Have the keys fetched; False if they may not be now."""
        if self._read is None or not self._may_fetch():
            return False
        self._flight.begin("", self._fetch)
        return True

    async def wait(self, since: int) -> None:
        """Wait for a fetch, if one may be made; what came of it is seen at `usable` and `keys`.

        `since` are the `rounds` there had been when the keys at hand would not do: another since then is enough.
        """
        if self.rounds == since and self.begin():
            await self._flight.get("", self._fetch)

    def worth_asking(self, kid: str | None, algorithm: str) -> bool:
        """Whether a fetch may bring a key of that name, which is not among the keys now."""
        if self._read is None or self.keys.names(kid) or not self._may_fetch():
            return False
        return self._unknown.get((kid, algorithm), 0.0) <= self._monotonic()

    def not_found(self, kid: str | None, algorithm: str) -> None:
        """A fetch did not bring it: do not ask again soon."""
        if len(kid or "") <= _LONGEST_NAME:
            if len(self._unknown) >= UNKNOWN_NAMES:
                del self._unknown[next(iter(self._unknown))]
            self._unknown[kid, algorithm] = self._monotonic() + UNKNOWN

    def take(self, keys: KeySet) -> None:
        """These are the keys from now on. Those that are no longer among them stop being `live`."""
        now = self._monotonic()
        if {key.print for key in keys.keys} - {key.print for key in self.keys.keys}:
            self._unknown.clear()
        self.keys = self.keys.followed_by(keys)
        self._failures = 0
        if self._read is not None:
            self.due, self._expire = now + self._timing.refresh, now + self._timing.stale

    def _may_fetch(self) -> bool:
        """Whether a fetch is under way, or may begin."""
        now = self._monotonic()
        few = len(self._fetches) < self._timing.per_minute or self._fetches[0] <= now - 60
        return len(self._flight) > 0 or (few and now >= self._rest_until)

    async def _fetch(self) -> None:
        """Never raises: those who wait look at what they have then."""
        assert self._read is not None
        self._fetches.append(self._monotonic())
        try:
            keys = await self._read()
        except (FetchError, Refused) as error:
            self.rounds += 1
            _log.warning("the keys of %s cannot be had: %s", self._name, error.reason)
            self.due = self._rest_until = self._monotonic() + min(RETRY, 2.0**self._failures)
            self._failures += 1
            return
        self.rounds += 1
        if not len(keys):
            _log.warning("%s has no key that can be used", self._name)
        self.take(keys)


async def _document(url: str, ca: str) -> dict[str, Any]:
    answer = await fetch(url, headers=[(b"accept", b"application/json")], ca=ca)
    if answer.status != 200:
        raise FetchError(f"status_{answer.status}")
    return members(answer.body)


def from_url(url: str, ca: str = "") -> Read:
    """Reads a key set (RFC 7517 §5) from a URL."""

    async def read() -> KeySet:
        return key_set(await _document(url, ca))

    return read


def from_discovery(issuer: str, ca: str = "") -> Read:
    """Reads the key set that the issuer's configuration names (OpenID Connect Discovery 1.0 §4).

    The configuration has to be that of this very issuer (§4.3), and an issuer on https has its keys on https.
    """

    async def read() -> KeySet:
        found = await _document(issuer.rstrip("/") + _WELL_KNOWN, ca)
        url = found.get("jwks_uri")
        if found.get("issuer") != issuer or not isinstance(url, str) or not is_url(url):
            raise Refused("discovery")
        if issuer.startswith("https:") and not url.startswith("https:"):
            raise Refused("discovery")
        return key_set(await _document(url, ca))

    return read


def read_file(path: str) -> KeySet:
    """The key set in a file. Raises `Refused`, and `OSError`."""
    with open(path, "rb") as file:
        return key_set(members(file.read(LIMIT)))


def from_file(path: str) -> Read:
    """Reads a key set from a file, so that one can be replaced without a reload."""

    async def read() -> KeySet:
        try:
            return read_file(path)
        except OSError:
            raise FetchError("unreadable") from None

    return read
