"""Policies made up by a test, under names of its own, beside or instead of the real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct

from gatewayd import policies
from gatewayd.core.policy import BuildContext, Hooks


class NoOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of a policy that has none."""


def policy(
    build: Callable[[Any, BuildContext], Hooks] | Hooks, stacks: bool = True, config: type[Struct] = NoOptions
) -> ModuleType:
    """A policy's module; `build` may be the hooks that it would make."""
    made = ModuleType("made_up")
    made.Config, made.STACKS = config, stacks  # type: ignore[attr-defined]
    made.build = (lambda config, context: build) if isinstance(build, Hooks) else build  # type: ignore[attr-defined]
    return made


def install(monkeypatch: pytest.MonkeyPatch, **modules: ModuleType) -> None:
    """Have exactly these policies, in this order, while the test runs."""
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"{policies.__name__}.{name}", module)
    monkeypatch.setattr(policies, "ORDER", tuple(modules))
