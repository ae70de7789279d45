"""The JSON Schema of the document, for editors: `gatewayd config schema > gatewayd.schema.json`.

msgspec's own generator cannot write the defaults of unit types, so the types are walked here. Draft 7, the newest
that TOML editors know alike; there a `$ref` hides what stands beside it, so references stand in `allOf`.
"""

from __future__ import annotations

import inspect as python
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from gatewayd.config.comments import descriptions
from gatewayd.config.model import Document, PolicyTable
from gatewayd.config.units import (
    DURATION_PATTERN,
    MOMENT_PATTERN,
    RATE_PATTERN,
    SIZE_PATTERN,
    Duration,
    Moment,
    Rate,
    Size,
    to_plain,
)

_SUBSTITUTED = {"type": "string", "pattern": r"\$\{(env|file):[^}]+\}"}
"""A text with `${…}` may stand for a value of any type."""
_UNITS: dict[type, tuple[str, str]] = {
    Duration: (DURATION_PATTERN, "number"),
    Size: (SIZE_PATTERN, "integer"),
    Rate: (RATE_PATTERN, "number"),
    Moment: (MOMENT_PATTERN, "number"),
}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def schema(policies: Mapping[str, type[Struct]]) -> dict[str, Any]:
    """The schema of a whole configuration. `policies` maps each policy's name to its `Config`."""
    types = _Types()
    document = types.struct(Document)
    instances = document["properties"]["policies"]
    instances["additionalProperties"] = {"anyOf": [types.policy(name, policies[name]) for name in policies]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gatewayd configuration",
        **document,
        "definitions": types.definitions,
    }


class _Types:
    """Schemas of types; those of tables are gathered as `definitions`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        items = _sized("array", "Items", lambda info: {"items": self.of(info.item_type)})
        self.kinds: dict[type[inspect.Type], Callable[[Any], dict[str, Any]]] = {
            inspect.StructType: self._reference,
            inspect.Metadata: self._metadata,
            inspect.UnionType: self._union,
            inspect.DictType: self._dict,
            inspect.ListType: items,
            inspect.SetType: items,
            inspect.FrozenSetType: items,
            inspect.VarTupleType: items,
            inspect.StrType: _sized("string", "Length", _pattern),
            inspect.AnyType: lambda info: {},
            inspect.BoolType: lambda info: _or_substituted({"type": "boolean"}),
            inspect.IntType: lambda info: _or_substituted({"type": "integer"} | _bounds(info)),
            inspect.FloatType: lambda info: _or_substituted({"type": "number"} | _bounds(info)),
            inspect.LiteralType: lambda info: _or_substituted({"enum": list(info.values)}),
            inspect.CustomType: lambda info: _unit(info.cls),
        }

    def of(self, info: inspect.Type) -> dict[str, Any]:
        """The schema of any type."""
        return self.kinds[type(info)](info)

    def struct(self, kind: type[Struct]) -> dict[str, Any]:
        """The schema of a table, with its options' descriptions and defaults."""
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        told = descriptions(kind)
        tag = {info.tag_field: {"description": "which kind it is of", "enum": [info.tag]}} if info.tag_field else {}
        own = {field.encode_name: self._option(field, told.get(field.name, "")) for field in info.fields}
        return {
            "type": "object",
            "description": python.cleandoc(kind.__doc__ or ""),
            "properties": tag | own,
            "required": [*tag, *(field.encode_name for field in info.fields if field.required)],
            "additionalProperties": not info.forbid_unknown_fields,
        }

    def policy(self, name: str, config: type[Struct]) -> dict[str, Any]:
        """The schema of an instance of one policy: its own options and those every policy has."""
        own, common = self.struct(config), self.struct(PolicyTable)
        properties = common["properties"] | own["properties"]
        properties["policy"] = {**properties["policy"], "enum": [name, ""]}
        doc = python.cleandoc(python.getmodule(config).__doc__ or "") or own["description"]
        return own | {"title": name, "description": doc, "properties": properties}

    def _option(self, field: inspect.Field, told: str) -> dict[str, Any]:
        found = self.of(field.type)
        if told:
            found = {"description": told, **found}
        default = field.default if field.default_factory is NODEFAULT else field.default_factory()
        if default is None or default is NODEFAULT or isinstance(default, Struct):
            return found
        return {**found, "default": msgspec.to_builtins(default, enc_hook=to_plain)}

    def _reference(self, info: inspect.StructType) -> dict[str, Any]:
        name = info.cls.__name__
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = self.struct(info.cls)
        return {"allOf": [{"$ref": f"#/definitions/{name}"}]}

    def _metadata(self, info: inspect.Metadata) -> dict[str, Any]:
        return self.of(info.type) | (info.extra_json_schema or {})

    def _union(self, info: inspect.UnionType) -> dict[str, Any]:
        members = [self.of(member) for member in info.types if not isinstance(member, inspect.NoneType)]
        return members[0] if len(members) == 1 else {"anyOf": members}

    def _dict(self, info: inspect.DictType) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": _name(info.key_type),
            "additionalProperties": self.of(info.value_type),
        }


def _sized(name: str, counted: str, more: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """Schemas of a type that has a length: `minLength` of texts, `minItems` of lists."""

    def made(info: Any) -> dict[str, Any]:
        limits = {f"min{counted}": info.min_length, f"max{counted}": info.max_length}
        return {
            "type": name,
            **{key: limit for key, limit in limits.items() if limit is not None},
            **more(info),
        }

    return made


def _pattern(info: inspect.StrType) -> dict[str, Any]:
    if info.pattern is None:
        return {}
    return {"anyOf": [{"pattern": info.pattern}, {"pattern": _SUBSTITUTED["pattern"]}]}


def _name(info: inspect.Type) -> dict[str, Any]:
    """The schema of a key: names are taken as they stand, so `${…}` is no way to write one."""
    bare = info.type if isinstance(info, inspect.Metadata) else info
    pattern = bare.pattern if isinstance(bare, inspect.StrType) else None
    return {"pattern": pattern} if pattern else {}


def _or_substituted(found: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [found, _SUBSTITUTED]}


def _bounds(info: inspect.IntType | inspect.FloatType) -> dict[str, Any]:
    found = {word: getattr(info, name) for name, word in _BOUNDS.items()}
    return {word: bound for word, bound in found.items() if bound is not None}


def _unit(kind: type) -> dict[str, Any]:
    """A duration, size or rate: a text with its unit, or a bare number."""
    pattern, number = _UNITS[kind]
    return {"anyOf": [{"type": "string", "pattern": pattern}, {"type": number, "minimum": 0}, _SUBSTITUTED]}
