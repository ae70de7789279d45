"""What the control process consists of beside its probes, in the order in which a new generation reaches them."""

from __future__ import annotations

from gatewayd.collect.part import Ask, Part


def make(ask: Ask) -> list[Part]:
    """The parts. `ask` asks the supervisor, and through it the workers."""
    return []
