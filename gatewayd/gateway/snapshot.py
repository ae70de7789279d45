"""The snapshot: a generation as compiled for serving. Immutable; replaced whole, by one assignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gatewayd.config.model import Document
from gatewayd.core.policy import Figures, Hooks, Route
from gatewayd.gateway.router import Router
from gatewayd.identity.consumers import Index
from gatewayd.upstream.group import UpstreamGroup


class ChainLink(NamedTuple):
    """One policy instance on a route, in the order it runs."""

    instance: str
    policy: str
    mode: str  # "enforce" or "observe"
    failure: str  # "closed" or "open"
    hooks: Hooks

    @property
    def explain(self) -> str:
        """What it does, in a line."""
        return self.hooks.explain


@dataclass(slots=True)
class Snapshot:
    """Everything a worker needs to serve one generation."""

    generation: int
    document: Document
    routers: dict[str, Router] = field(default_factory=dict)  # by listener
    routes: dict[str, Route] = field(default_factory=dict)
    chains: dict[str, tuple[ChainLink, ...]] = field(default_factory=dict)  # by route, without any plan
    links: dict[str, ChainLink] = field(default_factory=dict)  # by instance
    upstreams: dict[str, UpstreamGroup] = field(default_factory=dict)
    topics: dict[str, list[Callable[[bytes], Any]]] = field(default_factory=dict)  # who hears what workers are told
    figures: dict[str, list[Figures]] = field(default_factory=dict)  # what instances show of themselves
    consumers: Index | None = None

    def shown(self) -> dict[str, dict[str, Any]]:
        """What instances show of themselves, and what they are, by name."""
        return {
            name: {
                "policy": self.links[name].policy,
                "mode": self.links[name].mode,
                **{key: value for figures in asked for key, value in figures().items()},
            }
            for name, asked in self.figures.items()
            if name in self.links
        }

    def close(self) -> None:
        """No exchange asks who calls on this snapshot any more: let go of its part of shared memory."""
        if self.consumers is not None:
            self.consumers.close()
