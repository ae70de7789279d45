"""The snapshot: a generation as compiled for serving. Immutable; replaced whole, by one assignment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gatewayd.config.model import Document
from gatewayd.core.policy import Hooks, Route
from gatewayd.gateway.router import Router
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
    chains: dict[str, tuple[ChainLink, ...]] = field(default_factory=dict)  # by route
    upstreams: dict[str, UpstreamGroup] = field(default_factory=dict)
