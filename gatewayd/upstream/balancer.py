"""Balancers: which of the available targets serves an exchange. Made at load time; they pick without waiting.

p2c_ewma         power of two choices (Mitzenmacher 2001) by latency × load, with Finagle's "peak" average
round_robin      smooth weighted round robin: exact shares, spread evenly
least_requests   fewest exchanges in flight for its weight, ties in turn
consistent_hash  weighted rendezvous hashing (Thaler, Ravishankar 1998): a change moves only the keys it must
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from math import exp, log
from random import Random
from zlib import crc32

from gatewayd.config import model
from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Exchange
from gatewayd.upstream.target import Target

Picker = Callable[[Sequence[Target], Exchange], Target]
"""Picks from candidates, never empty. A tuple is the upstream's standing choice and may be remembered by
identity; a list is made for one retry."""
KeyOf = Callable[[Exchange], bytes]
"""What an exchange is hashed on; b"" if it has no such thing."""

DECAY = 10.0
"""Seconds in which an unconfirmed latency fades to 1/e: slow targets are shunned long, not for ever."""
UNKNOWN_LATENCY = 1e6
"""Seconds charged per exchange in flight while the latency is unknown: one goes first, alone."""
SLOTS = 8192
"""Entries of the hash table; keys are spread over targets to this resolution."""
_STEPS = float(1 << 52)
"""So many hash values are told apart: as many as floats can between 0 and 1, both excluded."""


def make_picker(config: model.Upstream, clock: Clock, random: Random) -> Picker:
    """The balancer that `config.balance` names. Raises `ValueError` if `config.hash_on` is none."""
    if config.balance == "round_robin":
        return round_robin
    if config.balance == "least_requests":
        return least_requests
    nearest = PowerOfTwo(clock, random).pick
    if config.balance == "p2c_ewma":
        return nearest
    return ConsistentHash(key_of(config.hash_on), nearest).pick


def observe(target: Target, seconds: float, now: float) -> None:
    """Take `seconds` into the target's latency: a worse value at once, a better one gradually."""
    latency = target.latency
    if seconds < latency:
        seconds += (latency - seconds) * exp((target.latency_at - now) / DECAY)
    target.latency = seconds
    target.latency_at = now


class PowerOfTwo:
    """Of two random candidates the one with less latency × (in flight + 1).

    With equal shares two different ones are compared. With unequal shares both are drawn by share and may be
    the same one: shares are kept where latencies are alike, at the price of less distance from a slow target.
    """

    __slots__ = ("_bounds", "_monotonic", "_random", "_seen")

    def __init__(self, clock: Clock, random: Random) -> None:
        self._monotonic = clock.monotonic
        self._random = random.random
        self._seen: Sequence[Target] = ()
        self._bounds: list[float] = []  # running sums of the shares; none if all are equal

    def pick(self, candidates: Sequence[Target], _exchange: Exchange) -> Target:
        """The target to use."""
        if candidates is not self._seen:
            self._compile(candidates)
        count = len(candidates)
        if self._bounds:
            first, second = self._draw(), self._draw()
        elif count == 2:
            first, second = 0, 1
        else:
            spot = self._random() * count
            first = int(spot)
            second = first - 1 - int((spot - first) * (count - 1))  # below 0 it counts from the end
        one, other = candidates[first], candidates[second]
        now = self._monotonic()
        return one if one is other or _cost(one, now) <= _cost(other, now) else other

    def _compile(self, candidates: Sequence[Target]) -> None:
        shares = [target.share for target in candidates]
        equal = len(shares) > 1 and min(shares) == max(shares)
        self._bounds = [] if equal else list(accumulate(shares))
        self._seen = candidates

    def _draw(self) -> int:
        bounds = self._bounds
        # The upper bound is for a product that rounds up to the sum of all shares.
        return bisect(bounds, self._random() * bounds[-1], 0, len(bounds) - 1)


def _cost(target: Target, now: float) -> float:
    latency = target.latency
    if latency:
        # It fades towards zero while nothing confirms it, so that a slow target is tried again (see DECAY).
        return latency * (target.in_flight + 1) * exp((target.latency_at - now) / DECAY)
    return target.in_flight * UNKNOWN_LATENCY


def round_robin(candidates: Sequence[Target], _exchange: Exchange | None = None) -> Target:
    """The next in smooth weighted order: each turn all earn their share; the richest is picked and pays."""
    best = candidates[0]
    total = 0.0
    for target in candidates:
        share = target.share
        target.turn += share
        total += share
        if target.turn > best.turn:
            best = target
    best.turn -= total
    return best


def least_requests(candidates: Sequence[Target], _exchange: Exchange) -> Target:
    """The one with the fewest exchanges in flight for its share; those that tie take turns by share."""
    best = candidates[0]
    least = best.in_flight / best.share
    tied = False
    for target in candidates:
        load = target.in_flight / target.share
        if load < least:
            best, least, tied = target, load, False
        elif load == least and target is not best:
            tied = True
    return round_robin([target for target in candidates if target.in_flight / target.share == least]) if tied else best


class ConsistentHash:
    """The same target for the same key, in every worker and after every restart.

    Keys fall into slots, and each slot belongs to the candidate that scores highest for it; who scores how
    does not depend on who else is there. Owners are worked out when a slot is first met.
    """

    __slots__ = ("_key_of", "_otherwise", "_owners", "_seen")

    def __init__(self, key_of: KeyOf, otherwise: Picker) -> None:
        """`otherwise` serves exchanges without a key."""
        self._key_of = key_of
        self._otherwise = otherwise
        self._seen: Sequence[Target] = ()
        self._owners: list[Target | None] = []

    def pick(self, candidates: Sequence[Target], exchange: Exchange) -> Target:
        """The target to use."""
        key = self._key_of(exchange)
        if not key:
            return self._otherwise(candidates, exchange)
        slot = crc32(key) % SLOTS
        if not isinstance(candidates, tuple):
            return owner_of(slot, candidates)
        if candidates is not self._seen:
            self._seen, self._owners = candidates, [None] * SLOTS
        owner = self._owners[slot]
        if owner is None:
            owner = self._owners[slot] = owner_of(slot, candidates)
        return owner


def owner_of(slot: int, candidates: Sequence[Target]) -> Target:
    """The candidate with the highest score for `slot`: share ÷ −ln(u), u from (0, 1) by slot and target."""
    text = slot.to_bytes(4)

    def score(target: Target) -> float:
        digest = blake2b(text, key=target.seed, digest_size=8).digest()
        return target.share / -log(((int.from_bytes(digest) >> 12) + 0.5) / _STEPS)

    return max(candidates, key=score)


def key_of(hash_on: str) -> KeyOf:
    """The reader of "ip", "header:<name>" or "cookie:<name>". Raises `ValueError` if it is none of them."""
    kind, _, name = hash_on.partition(":")
    if hash_on == "ip":
        return lambda exchange: exchange.client.encode()
    if kind == "header" and name:
        return _header(name.lower().encode())
    if kind == "cookie" and name:
        return _cookie(name.encode())
    raise ValueError('not "ip", "header:<name>" or "cookie:<name>"')


def _header(wanted: bytes) -> KeyOf:
    def read(exchange: Exchange) -> bytes:
        for name, value in exchange.headers:
            if name == wanted:
                return value
        return b""

    return read


def _cookie(wanted: bytes) -> KeyOf:
    start = wanted + b"="

    def read(exchange: Exchange) -> bytes:
        for name, value in exchange.headers:
            if name == b"cookie" and start in value:
                for pair in value.split(b";"):
                    pair = pair.strip()
                    if pair.startswith(start):
                        return pair[len(start) :].strip(b'"')
        return b""

    return read
