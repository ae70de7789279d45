"""The metrics page: cells of shared memory, the daemon's status and what parts of the control process show.

In the format the scraper likes better: Prometheus' text, or OpenMetrics 1.0, which has exemplars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client import Metric, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from gatewayd.observe.metrics import Totals
from gatewayd.server import counted, told
from gatewayd.server.families import bounded


class Format(NamedTuple):
    """How a page is written."""

    content_type: str
    write: Callable[[CollectorRegistry], bytes]


TEXT = Format(exposition.CONTENT_TYPE_PLAIN_0_0_4, exposition.generate_latest)
OPENMETRICS = Format(openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest)


def wanted(accept: str) -> Format:
    """What an Accept header prefers (RFC 9110 §12.5.1); text where it makes no difference or is not understood."""
    weights = {"text/plain": 0.0, "application/openmetrics-text": 0.0}
    for each in accept.split(","):
        kind, *rest = (part.strip().lower() for part in each.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        if kind in weights and parameters.get("version", "1.0.0") in ("0.0.4", "1.0.0"):
            weights[kind] = max(weights[kind], _weight(parameters.get("q", "1")))
    text, other = weights.values()
    return OPENMETRICS if other > 0 and other >= text else TEXT


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def page(status: Mapping[str, Any], totals: Totals, more: Iterable[Metric] = (), form: Format = TEXT) -> bytes:
    """The whole page. `status` is the supervisor's; `more` families stand at its end."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(status, totals, more))
    return form.write(registry)


class _Page(Collector):
    def __init__(self, status: Mapping[str, Any], totals: Totals, more: Iterable[Metric]) -> None:
        self._status = status
        self._totals = totals
        self._more = more

    def collect(self) -> Iterator[Metric]:
        """Every family, in the order of the page."""
        yield from told.families(self._status)
        yield from counted.families(self._totals)
        for family in self._more:
            yield bounded(family)
