"""What may be said of the store that call records are collected in."""

from __future__ import annotations

from gatewayd.config.units import Duration, Size
from gatewayd.config.values import Bytes, Section, Span


class Collector(Section, frozen=True):
    """What the control process keeps of the call records, for questions about them. docs/collector.md"""

    enabled: bool = True  # whether records are collected, where audit.enabled has them written
    interval: Span = Duration(0.2)  # how often new records are looked for
    memory: Bytes = Size(64 * 1024 * 1024)  # what the store's database keeps in memory at most
    keep_calls: Duration = Duration(30 * 86400)  # single calls older than this go; 0: none goes
    keep_10s: Duration = Duration(6 * 3600)  # sums over 10 seconds; 0: for ever, as below
    keep_1m: Duration = Duration(7 * 86400)  # over a minute
    keep_1h: Duration = Duration(400 * 86400)  # over an hour
    keep_1d: Duration = Duration(1830 * 86400)  # over a day (UTC)
