"""Which rollups answer for a period: coarse ones for most of it, finer ones for its edges.

A period of 20 days that begins at 10:07:30 is some hours and days, with a few minutes and 10 seconds on either side.
Finer rollups are kept for a shorter time, and coarser ones come in later; where one of them has no data, its neighbour
answers, and the period becomes as much longer as that one is coarse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import duckdb

from gatewayd.collect.schema import TIERS

_SECOND = 1_000_000
_NEVER, _ALWAYS = -(1 << 62), 1 << 62
STEPS = {
    "10s": 10,
    "30s": 30,
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "6h": 6 * 3600,
    "1d": 86400,
}
"""Seconds between the points of a series."""
POINTS = 120
"""How many a series has at most, if its step is not given."""
MOST_POINTS = 10_000


class Rollup(NamedTuple):
    """A tier, and what it has data of; times in microseconds since the epoch."""

    tier: str
    width: int
    since: int
    """The first bucket it has."""
    until: int
    """What it has not got yet begins here."""


class Piece(NamedTuple):
    """A stretch of time that one tier answers for; microseconds since the epoch, the end not included."""

    tier: str
    begin: int
    end: int


def rollups(cursor: duckdb.DuckDBPyConnection) -> list[Rollup]:
    """The tiers that have data, from the finest to the coarsest."""
    until = dict(cursor.execute("SELECT tier, epoch_us(until) FROM cascaded").fetchall())
    found: list[Rollup] = []
    for tier in TIERS:
        first = cursor.execute(f"SELECT epoch_us(min(bucket)) FROM rollup_{tier.name}").fetchone()  # noqa: S608
        if first is not None and first[0] is not None:
            end = until.get(tier.name, 0) if found else _ALWAYS  # the finest takes what comes in as it comes
            found.append(Rollup(tier.name, tier.seconds * _SECOND, first[0], end))
    return found


def cover(begin: int, end: int, tiers: Sequence[Rollup]) -> list[Piece]:
    """What answers for `begin` to `end`, one piece behind the other. `tiers` from the finest to the coarsest."""
    if not tiers:
        return []
    *finer, tier = tiers
    if not finer:
        return [Piece(tier.tier, _down(begin, tier.width), _up(end, tier.width))]
    inner_begin, inner_end = _inner(begin, end, finer[-1], tier)
    if inner_begin >= inner_end:
        return cover(begin, end, finer)
    before = cover(begin, inner_begin, finer) if begin < inner_begin else []
    behind = cover(inner_end, end, finer) if inner_end < end else []
    return [*before, Piece(tier.tier, inner_begin, inner_end), *behind]


def _inner(begin: int, end: int, finer: Rollup, tier: Rollup) -> tuple[int, int]:
    """The part of a period that `tier` answers for: whole buckets, those at an edge that `finer` has not, too."""
    gone = finer.since if tier.since < _down(finer.since, tier.width) else _NEVER
    last = _down(end, tier.width)
    inner_begin = _down(begin, tier.width) if begin < gone else _up(begin, tier.width)
    inner_end = _up(end, tier.width) if max(begin, last) < gone else last
    return inner_begin, min(inner_end, _down(tier.until, tier.width))


def step_for(begin: int, end: int, wanted: str | None, tiers: Iterable[Rollup]) -> str:
    """The step of a series: as wanted if the data allow it, else the finest that needs few points."""
    allowed = [name for name, seconds in STEPS.items() if _reaches_back(begin, seconds * _SECOND, tiers)] or ["1d"]
    if wanted in allowed:
        return wanted
    if wanted is not None:
        return min((name for name in allowed if STEPS[name] > STEPS[wanted]), key=STEPS.__getitem__, default="1d")
    return next((name for name in allowed if (end - begin) / (STEPS[name] * _SECOND) <= POINTS), allowed[-1])


def fitting(step: str, tiers: Iterable[Rollup]) -> list[Rollup]:
    """The tiers whose buckets lie within the steps of a series."""
    return [tier for tier in tiers if STEPS[step] * _SECOND % tier.width == 0]


def _reaches_back(begin: int, width: int, tiers: Iterable[Rollup]) -> bool:
    """Whether what is no coarser than `width` has data from `begin` on, as far as there are any."""
    tiers = list(tiers)
    fine = [tier for tier in tiers if tier.width <= width]
    if not fine:
        return not tiers
    since = min(tier.since for tier in fine)
    return since <= begin or all(_down(since, tier.width) <= tier.since for tier in tiers)


def aligned(begin: int, end: int, step: str) -> tuple[int, int]:
    """The period in whole steps."""
    return _down(begin, STEPS[step] * _SECOND), _up(end, STEPS[step] * _SECOND)


def _down(moment: int, width: int) -> int:
    return moment - moment % width


def _up(moment: int, width: int) -> int:
    return moment + -moment % width
