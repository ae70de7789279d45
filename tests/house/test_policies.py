"""A policy is in four places that agree: ORDER, its file, its page in docs/policies, its part of conf.toml."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest

from gatewayd.policies import ORDER

from .tree import files, read, sources

FILES = {source.path.stem: source for source in sources("gatewayd") if source.path.parts[1] == "policies"}
FILES.pop("__init__", None)


def test_order_names_every_file_once():
    assert len(set(ORDER)) == len(ORDER)
    assert set(ORDER) == set(FILES)


def test_every_policy_has_a_page_and_every_page_a_policy():
    pages = {path.stem for path in files(".md") if path.parts[:2] == ("docs", "policies")}
    assert pages - {"README"} == set(ORDER)


def test_every_policy_has_a_section_in_the_manual():
    whole = re.sub(r"^#(?=[a-z_]+ = |\[)", "", read("conf.toml"), flags=re.MULTILINE)  # some cannot run as they are
    tables = tomllib.loads(whole)["policies"]
    assert {table.get("policy") or name for name, table in tables.items()} == set(ORDER)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_policy_is_one_short_file_of_a_known_shape(name):
    source = FILES[name]
    top = {each.name for each in source.tree.body if isinstance(each, ast.ClassDef | ast.FunctionDef)}
    assert {"Config", "build"} <= top
    assert source.lines <= 150


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_page_names_every_option(name):
    config = next(each for each in FILES[name].tree.body if isinstance(each, ast.ClassDef) and each.name == "Config")
    options = {each.target.id for each in config.body if isinstance(each, ast.AnnAssign)}
    written = set(re.findall(r"`([a-z_]+)`", read(f"docs/policies/{name}.md")))
    assert not options - written
