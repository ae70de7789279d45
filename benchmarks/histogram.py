"""Latencies as HDR histograms: whole microseconds up to ten minutes, three significant digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hdrh.histogram import HdrHistogram

HIGHEST_US = 600_000_000
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}


def from_counts(counts: Mapping[int, int]) -> HdrHistogram:
    """A histogram of `counts`: how many requests took so many whole microseconds."""
    histogram = HdrHistogram(1, HIGHEST_US, 3)
    for microseconds, count in counts.items():
        histogram.record_value(min(max(microseconds, 1), HIGHEST_US), count)
    return histogram


def encode(histogram: HdrHistogram) -> str:
    """Base64 of the compressed V2 encoding, which HdrHistogram's tools of every language read."""
    encoded = histogram.encode()
    return encoded.decode() if isinstance(encoded, bytes) else encoded


def merge(encoded: Iterable[str]) -> HdrHistogram:
    """One histogram with everything these hold. Percentiles are taken of the sum, never averaged."""
    total = HdrHistogram(1, HIGHEST_US, 3)
    for text in encoded:
        total.decode_and_add(text)
    return total


def percentiles(histogram: HdrHistogram) -> dict[str, float | None]:
    """Milliseconds by name of percentile; None where nothing was recorded."""
    if not histogram.get_total_count():
        return dict.fromkeys(PERCENTILES)
    return {name: histogram.get_value_at_percentile(at) / 1000 for name, at in PERCENTILES.items()}


def curve(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """(percentile, milliseconds) pairs for a plot, denser towards the tail."""
    at: list[Any] = [0, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 100]
    if not histogram.get_total_count():
        return []
    return [(float(percent), histogram.get_value_at_percentile(percent) / 1000) for percent in at]
