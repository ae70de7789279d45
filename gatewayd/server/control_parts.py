"""What the control process consists of beside its probes, in the order in which a new generation reaches them.

Only where calls are recorded: what reads them is a database library and its friends, some 60 MiB and 0.2 seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gatewayd.collect.part import Part
from gatewayd.config.model import Document

if TYPE_CHECKING:
    from gatewayd.collect.collector import Collector
    from gatewayd.collect.store import Store

MakeParts = Callable[[Document, Callable[[], Sequence[Part]]], Sequence[Part]]
"""(document, all parts there will be) to those that it wants."""


def make(document: Document, everyone: Callable[[], Sequence[Part]]) -> Sequence[Part]:
    """The parts that `document` wants."""
    if not document.audit.enabled:
        return ()
    from gatewayd.collect.alerting import Alerting
    from gatewayd.collect.api import Api
    from gatewayd.collect.collector import Collector
    from gatewayd.collect.otlp import TraceExporter
    from gatewayd.collect.retiring import Retention
    from gatewayd.collect.shipping import Shipping

    collector = Collector()

    def store() -> Store | None:
        return collector.store if collector.store.path is not None else None

    api = Api(store, lambda: [part for part in everyone() if part is not api])
    return collector, Retention(_needed(collector)), TraceExporter(store), Shipping(store), Alerting(store), api


def _needed(collector: Collector) -> Callable[[str], int | None]:
    """The first segment of a chain that is not wholly collected."""

    def first(chain: str) -> int | None:
        if collector.store.path is None:
            return None
        with collector.store.cursor() as cursor:
            found = cursor.execute("SELECT segment FROM positions WHERE chain = ?", [chain]).fetchone()
        return found[0] if found else 0

    return first
