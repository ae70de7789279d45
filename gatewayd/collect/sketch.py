"""Latencies counted in bins whose width grows with them: 16 to each power of two, so that what is read from them is at
most 1/16 too high. Bins of the same kind add up, whatever they were counted over.

Whole microseconds below 16 have a bin each. A larger value has its highest bit at e ≥ 4, and the four bits below that
say which of the 16 bins from 2^e on it is in. Values of `CEILING` and more are counted in the last bin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

CEILING = 1 << 40
"""Microseconds, a little less than 13 days."""
BINS = (40 - 3) * 16


def bin_of(us: int) -> int:
    """The bin of a latency of `us` ≥ 0 microseconds."""
    us = min(us, CEILING - 1)
    if us < 16:
        return us
    top = us.bit_length() - 1
    return (top - 3) * 16 + ((us >> (top - 4)) & 15)


def bins_of(us: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same for many."""
    capped = np.minimum(us, CEILING - 1)
    top = np.frexp(capped.astype(np.float64))[1].astype(np.int64) - 1
    shift = np.maximum(top - 4, 0)
    return np.where(capped < 16, capped, (top - 3) * 16 + ((capped >> shift) & 15))


def upper_bound(number: int) -> int:
    """The largest latency, in microseconds, of a bin."""
    if number < 16:
        return number
    power, part = divmod(number, 16)
    return ((17 + part) << (power - 1)) - 1


def percentile(bins: Iterable[tuple[int, int]], share: float) -> int:
    """Microseconds that `share` (0 to 1) of the calls took at most, 1/16 too high at the worst; 0 without calls.

    `bins`: pairs of bin and calls, in any order; a bin may come several times.
    """
    counts = sorted(bins)
    rank = max(1, math.ceil(share * sum(calls for _, calls in counts)))
    for number, calls in counts:
        rank -= calls
        if rank <= 0:
            return upper_bound(number)
    return 0


def bin_sql(us: str) -> str:
    """SQL for the bin of the expression `us`, an integer of microseconds.

    Without `least` and `greatest`, which take DuckDB longer than all the rest.
    """
    value = f"({us})::BIGINT"
    shift = f"(floor(log2({value} | 16))::BIGINT - 4)"  # exact up to the ceiling
    return f"(CASE WHEN {value} < {CEILING} THEN {shift} * 16 + ({value} >> {shift}) ELSE {BINS - 1} END)::USMALLINT"


def upper_bound_sql(number: str) -> str:
    """SQL for the largest latency, in microseconds, of the bin that the expression `number` says."""
    wide = f"({number})::BIGINT"
    return f"(CASE WHEN {wide} < 16 THEN {wide} ELSE ((17 + {wide} % 16) << greatest({wide} // 16 - 1, 0)) - 1 END)"
