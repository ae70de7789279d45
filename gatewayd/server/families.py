"""Families of metrics, and the bound on them: however many targets, policies or files there are, a page has an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.samples import Sample

from gatewayd.observe.tokens import OTHER

MOST = 10_000
"""Sets of labels that a family has, beside the one of all others."""
_WITHIN = ("le", "quantile")
"""Labels that tell apart the samples of one set."""
Combine = Callable[[float, float], float]


def add(left: float, right: float) -> float:
    """How samples become one, unless something else is said."""
    return left + right


def bounded(family: Metric, most: int = MOST, combine: Combine = add) -> Metric:
    """`family` with `most` sets of labels; those beyond the first are one whose labels are all `OTHER`.

    `combine` makes one value of two; samples of further ones have no exemplars.
    """
    if len(family.samples) <= most:
        return family
    kept: set[tuple[tuple[str, str], ...]] = set()
    samples: list[Sample] = []
    others: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in family.samples:
        key = tuple(pair for pair in sample.labels.items() if pair[0] not in _WITHIN)
        if key in kept or len(kept) < most:
            kept.add(key)
            samples.append(sample)
            continue
        labels = tuple((name, value if name in _WITHIN else OTHER) for name, value in sample.labels.items())
        known = others.get((sample.name, labels))
        others[sample.name, labels] = sample.value if known is None else combine(known, sample.value)
    samples += [Sample(name, dict(labels), value) for (name, labels), value in others.items()]
    made = Metric(family.name, family.documentation, family.type, family.unit)
    made.samples = samples
    return made


def counter(name: str, text: str, label: str, counts: Mapping[str, float]) -> CounterMetricFamily:
    """A family of counters with one label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in counts.items():
        family.add_metric([key], count)
    return family


class Table:
    """Families that have the same labels and are filled row by row: `name: (kind, what it is)`."""

    def __init__(self, labels: Iterable[str], **families: tuple[type[Metric], str]) -> None:
        names = list(labels)
        self.families: list[Metric] = [
            kind(f"gatewayd_{name}", text, labels=names)  # type: ignore[call-arg]
            for name, (kind, text) in families.items()
        ]

    def add(self, labels: Iterable[str], values: Iterable[float | None]) -> None:
        """A row: a value for each family, None where there is none."""
        key = list(labels)
        for family, value in zip(self.families, values, strict=True):
            if value is not None:
                family.add_metric(key, value)  # type: ignore[attr-defined]


COUNTER, GAUGE = CounterMetricFamily, GaugeMetricFamily
