"""Overrides from the environment: `GATEWAYD__LIMITS__HEAD=64KiB` is `limits.head = "64KiB"`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import inspect

from gatewayd.config.convert import by_tag
from gatewayd.config.faults import Faults, did_you_mean
from gatewayd.config.keys import Key, join
from gatewayd.config.model import Document
from gatewayd.config.sources import ENVIRONMENT, Sources
from gatewayd.errors import Fault

PREFIX = "GATEWAYD__"


class _UnknownError(Exception):
    """A name that is no option; `choices` stand where it does."""

    def __init__(self, name: str, choices: Iterable[str]) -> None:
        super().__init__(name)
        self.name = name
        self.choices = sorted(choices)


def override(raw: dict[str, Any], sources: Sources, environ: Mapping[str, str], faults: Faults) -> None:
    """Set in `raw` what the environment overrides.

    Names match options and existing tables without regard to case, signs counting as underscores. A value
    is read as TOML where it is some, as a text otherwise. Values are never shown: they count as secrets.
    """
    for variable in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        parts = variable[len(PREFIX) :].split("__")
        try:
            key, info = _find(inspect.type_info(Document), raw, parts)
        except _UnknownError as error:
            faults.put(_unknown(variable, parts, error))
            continue
        value = _value(environ[variable], info)
        if _put(raw, key, value):
            sources.overrides[key] = variable
            _hide(value, key, variable, sources)


def _find(info: inspect.Type, table: Any, parts: list[str]) -> tuple[Key, inspect.Type]:
    """The key that `parts` name, below a `table` of the type `info`, and the type of what stands there."""
    key: Key = ()
    for part in parts:
        info = _of_kind(_bare(info), table)
        name, info = _step(info, table if isinstance(table, dict) else {}, part)
        key = (*key, name)
        table = table.get(name) if isinstance(table, dict) else None
    if key == ("include",):
        raise _UnknownError("include", ())
    return key, info


def _step(info: inspect.Type, table: dict[str, Any], part: str) -> tuple[str, inspect.Type]:
    if isinstance(info, inspect.StructType):
        options = {field.encode_name: field.type for field in info.fields}
        return (name := _match(part, options)), options[name]
    if not isinstance(info, inspect.DictType | inspect.AnyType):
        raise _UnknownError(part, ())
    below = info.value_type if isinstance(info, inspect.DictType) else info
    try:
        return _match(part, table), below
    except _UnknownError:
        # A table of tables of our own (`routes`) takes no new entry; one of free keys (`reply.headers`) does.
        if isinstance(_bare(below), inspect.StructType | inspect.DictType | inspect.UnionType):
            raise
        return part.lower(), below


def _of_kind(info: inspect.Type, table: Any) -> inspect.Type:
    """Of a union of tables that say their kind, the one that `table` is of."""
    members = by_tag(info)
    tag = str(next(iter(members.values())).tag_field) if members else ""
    kind = table.get(tag) if isinstance(table, dict) else None
    return members.get(kind, info) if isinstance(kind, str) else info


def _bare(info: inspect.Type) -> inspect.Type:
    """A type without its annotations and without "or none"."""
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        if isinstance(info, inspect.Metadata):
            info = info.type
            continue
        members = [member for member in info.types if not isinstance(member, inspect.NoneType)]
        if len(members) != 1:
            break
        info = members[0]
    return info


def _match(part: str, names: Iterable[str]) -> str:
    names = list(names)
    found = [name for name in names if re.sub(r"[^a-z0-9]", "_", name.lower()) == part.lower()]
    if len(found) != 1:
        raise _UnknownError(part, names)
    return found[0]


def _value(text: str, info: inspect.Type) -> Any:
    """`text` as TOML where it is a TOML value; for options that are texts, only where it is a quoted one."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    takes_text = isinstance(_bare(info), inspect.StrType)
    if len(table) != 1 or (takes_text and not isinstance(table["value"], str)):
        return text
    return table["value"]


def _put(raw: dict[str, Any], key: Key, value: Any) -> bool:
    """Set `value` in `raw`, making tables on the way; False where something else stands there (a fault)."""
    table: Any = raw
    for name in key[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return False
    table[key[-1]] = value
    return True


def _hide(value: Any, key: Key, variable: str, sources: Sources) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _hide(item, (*key, name), variable, sources)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _hide(item, (*key, index), variable, sources)
    elif isinstance(value, str):
        sources.substituted(key, f"${{env:{variable}}}")


def _unknown(variable: str, parts: list[str], error: _UnknownError) -> Fault:
    hint = did_you_mean(error.name, error.choices)
    path = join(tuple(part.lower() for part in parts))
    return Fault(path, "unknown option", variable, ", ".join(error.choices), hint, ENVIRONMENT)
