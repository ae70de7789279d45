"""From files and environment to a validated document. Everything wrong is gathered and raised at once.

read files, `include`s joined ─► overrides ─► `${…}` ─► each value against its type ─► rules across values
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gatewayd.config.check import check
from gatewayd.config.convert import walk_policy, walk_table
from gatewayd.config.environment import override
from gatewayd.config.faults import Faults
from gatewayd.config.join import read
from gatewayd.config.keys import Key, split
from gatewayd.config.model import Document, Listener, Route, Service, Upstream, decode
from gatewayd.config.sources import Sources
from gatewayd.config.substitute import substitute_all
from gatewayd.config.units import from_plain
from gatewayd.errors import ConfigError, Fault

__all__ = ["Loaded", "decode", "load"]


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
) -> Loaded:
    """The configuration that starts at the file `path`, checked (`config.check`).

    `policies` maps each policy's name to its `Config`; with it the tables `policies.*` are held to them too.
    Raises `ConfigError` with every fault, in the order of the files.
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
    document, broken = _sound_part(raw, faults)
    partial = {split(fault.path)[:2] for fault in faults.found}
    for fault in check(document, sources, broken=broken):
        # What an entry lacks may only lack because it was left out for a fault that is known already.
        if split(fault.path) not in partial:
            faults.put(fault)
    if faults.found:
        raise ConfigError(sorted(faults.found, key=lambda fault: _order(fault, sources)))
    return Loaded(document, raw, sources)


def _sound_part(raw: dict[str, Any], faults: Faults) -> tuple[Document, dict[str, set[str]]]:
    """What of `raw` is without fault, so that rules across values can still be tried on it.

    Left out are the options with faults; entries (`routes.quotes`) that lack something without them are named
    in the second value.
    """
    if not faults.found:
        return decode(raw), {}
    bad: dict[Key, set[Any]] = {}
    for fault in faults.found:
        key = split(fault.path)
        bad.setdefault(key[:2], set()).add(key[2] if len(key) > 2 else _ALL)
    sound: dict[str, Any] = {}
    broken: dict[str, set[str]] = {}
    for section, table in raw.items():
        if (section,) in bad or not isinstance(table, dict):
            continue
        left = {name: _without(value, bad.get((section, name), set())) for name, value in table.items()}
        entry = _ENTRIES.get(section)
        sound[section] = {name: value for name, value in left.items() if _decodes(value, entry)}
        if entry:
            broken[section] = left.keys() - sound[section].keys()
    return decode(sound), broken


_ENTRIES: dict[str, Any] = {
    "listeners": Listener,
    "upstreams": Upstream,
    "services": Service,
    "routes": Route,
    "policies": dict[str, Any],
}
_ALL = object()
_LEFT_OUT = object()


def _without(value: Any, bad: set[Any]) -> Any:
    """A section's entry or option without what is `bad` in it."""
    if not bad:
        return value
    if _ALL in bad or not isinstance(value, dict):
        return _LEFT_OUT
    return {name: item for name, item in value.items() if name not in bad}


def _decodes(value: Any, entry: Any) -> bool:
    """Whether `value` is there and can be an `entry` (any option's value, if that is None)."""
    if value is _LEFT_OUT or entry is None:
        return value is not _LEFT_OUT
    try:
        msgspec.convert(value, entry, dec_hook=from_plain)
    except msgspec.ValidationError:
        return False
    return True


def _order(fault: Fault, sources: Sources) -> tuple[int, int]:
    """Faults in the order a reader meets them; the environment's last."""
    files: list[str] = list(sources.texts)
    return (files.index(fault.file) if fault.file in files else len(files)), fault.line
