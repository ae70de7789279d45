"""From files and environment to a validated document. Everything wrong is gathered and raised at once.

read files, `include`s joined ─► overrides ─► `${…}` ─► each value against its type ─► rules across values ─► builders
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct

from gatewayd.config.check import check
from gatewayd.config.convert import walk_policy, walk_table
from gatewayd.config.environment import override
from gatewayd.config.faults import Faults, Locate, placed
from gatewayd.config.join import read
from gatewayd.config.keys import split
from gatewayd.config.model import Document, decode
from gatewayd.config.sound import leading_to, sound_part
from gatewayd.config.sources import Sources
from gatewayd.config.substitute import substitute_all
from gatewayd.errors import ConfigError, Fault

__all__ = ["Loaded", "decode", "load"]

Verify = Callable[[Document, Locate], Collection[Fault]]


@dataclass(frozen=True, slots=True, repr=False)
class Loaded:
    """A configuration without fault."""

    document: Document
    raw: dict[str, Any]
    """Plain data (secrets included) that `decode` makes the same document of, for workers."""
    locate: Sources
    """From a dotted key to `(file, line)`; hand it to whatever reports faults later on."""

    def __repr__(self) -> str:
        return f"<Loaded {self.locate.main} {self.document!r}>"


def load(
    path: str | os.PathLike[str],
    environ: Mapping[str, str] = os.environ,
    policies: Mapping[str, type[Struct]] | None = None,
    verify: Verify | None = None,
) -> Loaded:
    """The configuration that starts at the file `path`, checked (`config.check`).

    `policies` maps each policy's name to its `Config`; with it the tables `policies.*` are held to them too. `verify`
    finds what is wrong beyond that, in what is sound so far. Raises `ConfigError` with every fault, in the order of
    the files.
    """
    sources = Sources(os.fspath(path))
    faults = Faults(sources)
    merged = read(Path(path), sources, environ, faults)
    override(merged, sources, environ, faults)
    substitute_all(merged, sources, environ, faults)
    raw = walk_table(Document, merged, (), faults)
    if policies is not None and isinstance(raw.get("policies"), dict):
        tables = raw["policies"].items()
        raw["policies"] = {name: walk_policy(policies, name, table, faults)[0] for name, table in tables}
    document, broken = sound_part(raw, faults.found)
    _add(faults, check(document, sources, broken=broken))
    if verify is not None:
        document, _ = sound_part(raw, faults.found)
        _add(faults, placed(verify(document, sources), (), sources))
    if faults.found:
        raise ConfigError(sorted(faults.found, key=lambda fault: _order(fault, sources)))
    return Loaded(document, raw, sources)


def _add(faults: Faults, found: list[Fault]) -> None:
    """Take in what was `found` in the sound part of a document."""
    known = leading_to(faults.found)
    for fault in found:
        if split(fault.path) not in known:
            faults.put(fault)


def _order(fault: Fault, sources: Sources) -> tuple[int, int]:
    """Faults in the order a reader meets them; the environment's last."""
    files: list[str] = list(sources.texts)
    return (files.index(fault.file) if fault.file in files else len(files)), fault.line
