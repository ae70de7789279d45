"""Plain data against the types of the model, key by key, so that every fault is found and not only the first.

msgspec stops at the first error. This walk reads the same types (`msgspec.inspect`), so nothing is said
twice: what an option may be stands in the model, or in a policy's `Config`, and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect

from gatewayd.config.describe import describe, in_range
from gatewayd.config.faults import Faults, Locate, nowhere
from gatewayd.config.keys import Key, split
from gatewayd.config.model import PolicyTable
from gatewayd.config.sources import Sources
from gatewayd.config.units import UNITS, UnitError, from_plain
from gatewayd.errors import Fault

S = TypeVar("S", bound=Struct)
Extra = Mapping[str, Any]
"""What `Meta(extra=…)` says beside the type: `gt`, `ge`, `le` of unit types, `allowed` in words, `file`."""

_LARGEST = 2**63 - 1
"""Beyond it a number cannot be handed to the workers."""
_COMMON = tuple(PolicyTable.__struct_fields__)


def convert_table(
    kind: type[S], raw: dict[str, Any], path: str, locate: Locate = nowhere
) -> tuple[S | None, list[Fault]]:
    """The `kind` that the table at the dotted key `path` stands for, or None, and all that is wrong."""
    faults = Faults(locate)
    plain = walk_table(kind, raw, split(path), faults)
    return _struct(kind, plain, split(path), faults), faults.found


def convert_policy(
    policies: Mapping[str, type[Struct]], instance: str, raw: dict[str, Any], locate: Locate = nowhere
) -> tuple[PolicyTable | None, Struct | None, list[Fault]]:
    """What every policy has and its own `Config`, from the table `policies.<instance>`; None where faults
    forbid.

    `policies` maps each policy's name to its `Config`. The first part comes with `policy` filled in.
    """
    faults = Faults(locate)
    plain, name = walk_policy(policies, instance, raw, faults)
    if faults.found:
        return None, None, faults.found
    common = _struct(PolicyTable, {key: plain[key] for key in plain if key in _COMMON}, (), faults)
    own = {key: value for key, value in plain.items() if key not in _COMMON}
    config = _struct(policies[name], own, ("policies", instance), faults)
    return common and msgspec.structs.replace(common, policy=name), config, faults.found


def walk_table(kind: type[Struct], raw: object, key: Key, faults: Faults, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """`raw` as `kind` can take it: values from the environment as numbers, file names absolute.

    What is wrong is added to `faults`. Keys named in `also` are left out and left alone.
    """
    if not isinstance(raw, dict):
        faults.add(key, "wrong type", raw, allowed="a table")
        return {}
    return _Walk(faults).table(kind, raw, key, also)


def walk_policy(
    policies: Mapping[str, type[Struct]], instance: str, raw: object, faults: Faults
) -> tuple[dict[str, Any], str]:
    """As `walk_table`, for the table `policies.<instance>`; also the name of its policy."""
    key = ("policies", instance)
    if not isinstance(raw, dict):
        faults.add(key, "wrong type", raw, allowed="a table")
        return {}, ""
    common = walk_table(PolicyTable, {name: raw[name] for name in raw if name in _COMMON}, key, faults)
    named = common.get("policy")
    name = named if isinstance(named, str) and named else instance
    if name not in policies:
        where = (*key, "policy") if "policy" in raw else key
        if where not in faults:
            faults.choose(where, f"no policy of {'this' if named else 'this instance’s'} name", name, policies)
        return raw, name
    return common | walk_table(policies[name], raw, key, faults, also=_COMMON), name


def _struct(kind: type[S], plain: dict[str, Any], key: Key, faults: Faults) -> S | None:
    """The value, unless the walk found faults. A rule of the type's own `__post_init__` is a fault too."""
    if faults.found:
        return None
    try:
        return msgspec.convert(plain, kind, dec_hook=from_plain)
    except msgspec.ValidationError as error:
        faults.add(key, str(error).partition(" - at `$")[0])
        return None


@cache
def _type_info(kind: type[Struct]) -> inspect.StructType:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info


class _Walk:
    """One pass over plain data. Each method gives the value back as msgspec can take it."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.kinds: dict[type[inspect.Type], Callable[[Any, Any, Key, Extra], Any]] = {
            inspect.StructType: self._struct,
            inspect.DictType: self._dict,
            inspect.ListType: self._list,
            inspect.SetType: self._list,
            inspect.FrozenSetType: self._list,
            inspect.VarTupleType: self._list,
            inspect.UnionType: self._union,
            inspect.AnyType: self._any,
            inspect.StrType: self._text,
            inspect.IntType: self._number,
            inspect.FloatType: self._number,
            inspect.BoolType: self._bool,
            inspect.LiteralType: self._literal,
            inspect.CustomType: self._unit,
        }

    def table(self, kind: type[Struct], raw: dict[str, Any], key: Key, also: tuple[str, ...]) -> dict[str, Any]:
        """The table of a `kind`, without its keys `also`."""
        info = _type_info(kind)
        fields = {field.encode_name: field for field in info.fields}
        plain = {}
        for name, value in raw.items():
            if name in fields:
                plain[name] = self.walk(fields[name].type, value, (*key, name), {})
            elif name not in also:
                self.faults.unknown((*key, name), [*fields, *also])
        for name, field in fields.items():
            if field.required and name not in raw:
                self.faults.add((*key, name), "missing", allowed=describe(field.type))
        return plain

    def walk(self, info: inspect.Type, value: Any, key: Key, extra: Extra) -> Any:
        """The value at `key` against its type."""
        if isinstance(info, inspect.Metadata):
            return self.walk(info.type, value, key, {**extra, **(info.extra or {})})
        method = self.kinds.get(type(info))
        if method is None:
            raise TypeError(f"options of the type {type(info).__name__} are not supported")
        return method(info, value, key, extra)

    def _wrong(self, info: inspect.Type, value: Any, key: Key, extra: Extra, message: str = "wrong type") -> Any:
        self.faults.add(key, message, value, allowed=describe(info, extra))
        return value

    def _struct(self, info: inspect.StructType, value: Any, key: Key, extra: Extra) -> Any:
        if not isinstance(value, dict):
            return self._wrong(info, value, key, extra)
        return self.table(info.cls, value, key, ())

    def _dict(self, info: inspect.DictType, value: Any, key: Key, extra: Extra) -> Any:
        if not isinstance(value, dict):
            return self._wrong(info, value, key, extra)
        for name in value:
            self.walk(info.key_type, name, (*key, name), {"what": "name"})
        return {name: self.walk(info.value_type, item, (*key, name), {}) for name, item in value.items()}

    def _list(self, info: inspect.ListType, value: Any, key: Key, extra: Extra) -> Any:
        if not isinstance(value, list):
            return self._wrong(info, value, key, extra)
        if info.min_length and len(value) < info.min_length:
            return self._wrong(info, value, key, extra, "too few")
        if info.max_length is not None and len(value) > info.max_length:
            return self._wrong(info, value, key, extra, "too many")
        return [self.walk(info.item_type, item, (*key, index), {}) for index, item in enumerate(value)]

    def _union(self, info: inspect.UnionType, value: Any, key: Key, extra: Extra) -> Any:
        members = [member for member in info.types if not isinstance(member, inspect.NoneType)]
        if len(members) == 1:
            return self.walk(members[0], value, key, extra)
        if tagged := by_tag(info):
            return self._tagged(tagged, value, key)
        value = value if any(_fits(member, value) for member in members) else self._number_of(value, key)
        for member in members:
            if _fits(member, value):
                return self.walk(member, value, key, {**extra, "allowed": describe(info, extra)})
        return self._wrong(info, value, key, extra, "not allowed")

    def _tagged(self, members: Mapping[str, inspect.StructType], value: Any, key: Key) -> Any:
        """A table of one of several kinds, as one of its keys says."""
        info = next(iter(members.values()))
        tag = str(info.tag_field)
        if not isinstance(value, dict):
            return self._wrong(info, value, key, {})
        kind = value.get(tag)
        if not isinstance(kind, str):
            self.faults.add((*key, tag), "missing", allowed=", ".join(f'"{each}"' for each in members))
            return value
        if kind not in members:
            self.faults.choose((*key, tag), "not allowed", kind, members)
            return value
        for name in value:
            others = [each for each, other in members.items() if name in _names(other)]
            if others and name not in _names(members[kind]):
                allowed = ", ".join(sorted({*_names(members[kind]), tag}))
                hint = f'it is one of {tag} = "{others[0]}"'
                self.faults.add((*key, name), f'no option of {tag} = "{kind}"', allowed=allowed, hint=hint)
        return {tag: kind, **self.table(members[kind].cls, value, key, (tag,))}

    def _any(self, info: inspect.AnyType, value: Any, key: Key, extra: Extra) -> Any:
        """Plain data of any shape, but what JSON has no word for."""
        if isinstance(value, dict):
            return {name: self._any(info, item, (*key, name), extra) for name, item in value.items()}
        if isinstance(value, list):
            return [self._any(info, item, (*key, index), extra) for index, item in enumerate(value)]
        if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
            return self._wrong(info, value, key, extra)
        return value

    def _text(self, info: inspect.StrType, value: Any, key: Key, extra: Extra) -> Any:
        if not isinstance(value, str):
            return self._wrong(info, value, key, extra)
        if info.pattern is not None and not re.fullmatch(info.pattern, value):
            return self._wrong(info, value, key, extra, f"not a valid {extra.get('what', 'value')}")
        if len(value) < (info.min_length or 0):
            return self._wrong(info, value, key, extra, "too short")
        if info.max_length is not None and len(value) > info.max_length:
            return self._wrong(info, value, key, extra, "too long")
        return self._file(value, key) if extra.get("file") else value

    def _file(self, name: str, key: Key) -> str:
        """File names count from the file they stand in; "stdout" and "stderr" are none."""
        if not name or name in ("stdout", "stderr") or not isinstance(self.faults.locate, Sources):
            return name
        return str(self.faults.locate.directory(key) / name)

    def _number(self, info: inspect.IntType | inspect.FloatType, value: Any, key: Key, extra: Extra) -> Any:
        value = self._number_of(value, key)
        if not _fits(info, value):
            return self._wrong(info, value, key, extra)
        if abs(value) > _LARGEST:
            return self._wrong(info, value, key, extra, "too large for 64 bits")
        return value if in_range(info, value) else self._wrong(info, value, key, extra, "out of range")

    def _bool(self, info: inspect.BoolType, value: Any, key: Key, extra: Extra) -> Any:
        value = self._number_of(value, key)
        return value if isinstance(value, bool) else self._wrong(info, value, key, extra)

    def _literal(self, info: inspect.LiteralType, value: Any, key: Key, extra: Extra) -> Any:
        value = value if _fits(info, value) else self._number_of(value, key)
        if not _fits(info, value):
            if isinstance(value, str) and all(isinstance(choice, str) for choice in info.values):
                self.faults.choose(key, "not allowed", value, [str(choice) for choice in info.values])
            return self._wrong(info, value, key, extra, "not allowed")
        return value

    def _unit(self, info: inspect.CustomType, value: Any, key: Key, extra: Extra) -> Any:
        """A duration, size or rate stays as it was written; what it means only has to be within the range."""
        if info.cls not in UNITS:
            raise TypeError(f"options of the type {info.cls.__name__} are not supported")
        value = self._number_of(value, key)
        try:
            parsed = from_plain(info.cls, value)
        except UnitError as error:
            return self._wrong(info, value, key, extra, str(error))
        return value if in_range(extra, parsed) else self._wrong(info, value, key, extra, "out of range")

    def _number_of(self, value: Any, key: Key) -> Any:
        """Texts from `${env:…}` can stand for numbers and booleans; a text written as one cannot."""
        locate = self.faults.locate
        if not isinstance(value, str) or not isinstance(locate, Sources) or locate.written(key) is None:
            return value
        import tomllib

        try:
            number = tomllib.loads(f"value = {value}").get("value") if "\n" not in value else value
        except tomllib.TOMLDecodeError:
            return value
        return number if isinstance(number, bool | int | float) else value


def by_tag(info: inspect.Type) -> dict[str, inspect.StructType]:
    """The members of a union of tables that tell their kind apart by one of their keys; of all else none."""
    members = info.types if isinstance(info, inspect.UnionType) else ()
    found = {str(each.tag): each for each in members if isinstance(each, inspect.StructType) and each.tag_field}
    return found if len(found) == len(members) else {}


def _names(info: inspect.StructType) -> set[str]:
    return {field.encode_name for field in info.fields}


def _fits(info: inspect.Type, value: Any) -> bool:
    """Whether `value` has the shape of a member of a union, or the exact type of a number or choice."""
    if isinstance(info, inspect.Metadata):
        return _fits(info.type, value)
    if isinstance(info, inspect.LiteralType):
        return any(type(value) is type(choice) and value == choice for choice in info.values)
    if isinstance(info, inspect.FloatType):
        return type(value) in (int, float) and math.isfinite(value)
    shapes: dict[type[inspect.Type], type | tuple[type, ...]] = {
        inspect.BoolType: bool,
        inspect.StrType: str,
        inspect.StructType: dict,
        inspect.DictType: dict,
        inspect.ListType: list,
        inspect.CustomType: (str, int, float),
    }
    if isinstance(info, inspect.IntType):
        return type(value) is int
    return isinstance(value, shapes.get(type(info), ()))
