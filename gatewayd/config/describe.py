"""What an option may be, in words, from its type; and the ranges types carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import inspect

from gatewayd.config.units import UNITS

_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def describe(info: inspect.Type, extra: Mapping[str, Any] | None = None) -> str:
    """`a whole number, at least 1`: what can stand where `info` is asked for."""
    extra = extra or {}
    if isinstance(info, inspect.Metadata):
        return describe(info.type, {**extra, **(info.extra or {})})
    if "allowed" in extra:
        return str(extra["allowed"])
    if isinstance(info, inspect.LiteralType):
        return ", ".join(_choice(choice) for choice in info.values)
    if isinstance(info, inspect.UnionType):
        members = [describe(member, extra) for member in info.types if not isinstance(member, inspect.NoneType)]
        return " or ".join(members)
    if isinstance(info, inspect.CustomType):
        return (info.cls.ALLOWED if info.cls in UNITS else info.cls.__name__) + _range(extra)
    return _noun(info) + (_range(info) if isinstance(info, inspect.IntType | inspect.FloatType) else "")


def in_range(bounds: object, value: Any) -> bool:
    """Whether `value` keeps the bounds that a number type, or a unit type's `extra`, has."""
    ge, gt, le, lt = (_bound(bounds, name) for name in _BOUNDS)
    return (
        (ge is None or value >= ge)
        and (gt is None or value > gt)
        and (le is None or value <= le)
        and (lt is None or value < lt)
    )


def _bound(bounds: object, name: str) -> Any:
    return bounds.get(name) if isinstance(bounds, Mapping) else getattr(bounds, name, None)


def _range(bounds: object) -> str:
    named = [(words, _bound(bounds, name)) for name, words in _BOUNDS.items()]
    return "".join(f", {words} {bound}" for words, bound in named if bound is not None)


def _choice(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _noun(info: inspect.Type) -> str:
    if isinstance(info, inspect.ListType | inspect.SetType | inspect.FrozenSetType | inspect.VarTupleType):
        return "a list of at least one" if info.min_length else "a list"
    nouns: dict[type[inspect.Type], str] = {
        inspect.BoolType: "true or false",
        inspect.IntType: "a whole number",
        inspect.FloatType: "a number",
        inspect.StrType: "a text",
        inspect.AnyType: "a text, number, boolean, list or table",
    }
    return nouns.get(type(info), "a table")
