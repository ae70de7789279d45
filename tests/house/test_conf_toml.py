"""conf.toml is the manual: every option stands there with its true default, none that does not exist, and it runs."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import jsonschema_rs
import msgspec
import pytest
from msgspec import NODEFAULT, Struct, inspect

from gatewayd.config.convert import convert_table, walk_policy
from gatewayd.config.faults import Faults, nowhere
from gatewayd.config.load import load
from gatewayd.config.model import Document, PolicyTable
from gatewayd.config.schema import schema
from gatewayd.config.units import from_plain
from gatewayd.policies import ORDER
from gatewayd.policies import load as load_policy

from .tree import ROOT, read

CONFIGS = {name: load_policy(name).Config for name in ORDER}
TEXT = read("conf.toml")
COMMENTED = re.compile(r"^#(?=[a-z_0-9]+ = |\[)", re.MULTILINE)
"""A line that is an option or a table, taken out of use."""
WHOLE = COMMENTED.sub("", TEXT)
Standing = dict[tuple[type[Struct], str], list[object]]
"""Every value that stands for an option, by the table's type and the option's name."""


def standing(text: str) -> Standing:
    """The values of a configuration, by what they are."""
    found: Standing = defaultdict(list)
    plain = tomllib.loads(text)
    _gather(inspect.type_info(Document), plain, found)
    for name, table in plain.get("policies", {}).items():
        common = {key: value for key, value in table.items() if key in PolicyTable.__struct_fields__}
        own = {key: value for key, value in table.items() if key not in common}
        _gather(inspect.type_info(PolicyTable), common, found)
        _gather(inspect.type_info(CONFIGS[table.get("policy") or name]), own, found)
    return found


def _gather(info: inspect.Type, value: object, found: Standing) -> None:
    if isinstance(info, inspect.Metadata):
        _gather(info.type, value, found)
    elif isinstance(info, inspect.UnionType) and isinstance(value, dict):
        for member in info.types:
            _gather(member, value, found)
    elif isinstance(info, inspect.StructType) and isinstance(value, dict):
        for field in info.fields:
            if field.encode_name in value:
                found[info.cls, field.encode_name].append(value[field.encode_name])
                _gather(field.type, value[field.encode_name], found)
    elif isinstance(info, inspect.DictType) and isinstance(value, dict):
        for item in value.values():
            _gather(info.value_type, item, found)
    elif isinstance(info, inspect.ListType) and isinstance(value, list):
        for item in value:
            _gather(info.item_type, item, found)


def tables(info: inspect.Type) -> Iterator[type[Struct]]:
    """Every type of table there is below a type, itself first."""
    if isinstance(info, inspect.StructType):
        yield info.cls
        for field in info.fields:
            yield from tables(field.type)
    for name in ("type", "value_type", "item_type"):
        if isinstance(below := getattr(info, name, None), inspect.Type):
            yield from tables(below)
    for member in getattr(info, "types", ()):
        yield from tables(member)


KINDS = [
    kind
    for root in (Document, PolicyTable, *CONFIGS.values())
    for kind in dict.fromkeys(tables(inspect.type_info(root)))
]
OPTIONS = [(kind, field) for kind in KINDS for field in msgspec.structs.fields(kind)]
DEFAULTS = [
    (kind, field)
    for kind, field in OPTIONS
    if not (field.required or field.default is None or any(tables(inspect.type_info(field.type))))
    and (kind, field.name) != (Document, "policies")
]
"""Options that are no tables and have a default."""
IN_USE, IN_ALL = standing(TEXT), standing(WHOLE)


def named(option: object) -> str:
    """How a test of an option is named."""
    return option.__name__ if isinstance(option, type) else getattr(option, "name", str(option))


@pytest.mark.parametrize(("kind", "field"), OPTIONS, ids=named)
def test_every_option_stands_there(kind, field):
    assert IN_ALL[kind, field.encode_name]


@pytest.mark.parametrize(("kind", "field"), DEFAULTS, ids=named)
def test_what_is_commented_out_is_the_true_default(kind, field):
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    commented = list(IN_ALL[kind, field.encode_name])
    for value in IN_USE[kind, field.encode_name]:
        commented.remove(value)
    for value in commented:
        assert msgspec.convert(value, field.type, dec_hook=from_plain) == default


def test_it_runs_as_it_is():
    assert load(ROOT / "conf.toml", {}, CONFIGS).document.listeners


def test_no_option_is_unknown_even_if_everything_is_in_use():
    plain = tomllib.loads(WHOLE)
    _, faults = convert_table(Document, plain, "")
    for name, table in plain["policies"].items():
        found = Faults(nowhere)
        walk_policy(CONFIGS, name, table, found)
        faults += found.found
    assert not [str(fault) for fault in faults]


def test_every_commented_option_is_introduced():
    """Right above it stands prose, or its table, or another option that the same prose introduces."""
    lines = TEXT.splitlines()
    assert not [
        f"{number}: {line}"
        for number, line in enumerate(lines, 1)
        if COMMENTED.match(line) and not line.startswith("#[") and not lines[number - 2]
    ]


def test_editors_are_told_of_the_schema_and_it_agrees():
    assert TEXT.startswith("#:schema ./gatewayd.schema.json\n")
    validator = jsonschema_rs.validator_for(schema(CONFIGS))
    for text in (TEXT, WHOLE):
        assert not [error.message for error in validator.iter_errors(tomllib.loads(text))]


def patterned(kind: object) -> bool:
    """Whether a type is a text with a pattern."""
    return any(getattr(mark, "pattern", None) for mark in getattr(kind, "__metadata__", ()))


def dangerous(kind: object) -> bool:
    """Whether somewhere in a type a text with a pattern stands in a union with a list or a table."""
    parts = get_args(kind)
    if get_origin(kind) in (Union, UnionType) and any(patterned(part) for part in parts):
        return any(get_origin(part) in (list, set, dict, frozenset) for part in parts)
    return any(dangerous(part) for part in parts)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_no_option_has_msgspec_write_where_it_must_not(kind):
    """Version 0.22 corrupts memory over such a union, a while later and anywhere."""
    assert not [name for name, hint in get_type_hints(kind, include_extras=True).items() if dangerous(hint)]


def test_such_unions_are_seen():
    text = Annotated[str, msgspec.Meta(pattern="a")]
    assert [dangerous(kind) for kind in (text | list[str], list[text | dict[str, int]])] == [True, True]
    assert [dangerous(kind) for kind in (str | list[text], text | None, list[text])] == [False, False, False]
