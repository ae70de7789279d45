"""One word for each thing (CONTEXT.md), and no names that say nothing."""

from __future__ import annotations

import re

from .tree import ROOT, read, sources

SOURCES = sources("gatewayd", "benchmarks", "tests")
NOT_OURS = {"backend", "cluster", "endpoint", "helper", "manager", "master", "middleware", "node", "plugin", "util"}
"""Not even as a part of a name."""
EMPTY_ALONE = {"common"}
"""As a whole name; as an adjective it says something (`common_prefix`)."""


def words(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase, lower case and singular."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {part.lower().removesuffix("s") for part in parts}


def wrong(name: str) -> bool:
    """Whether a module, class, function or folder must not be called so."""
    return bool(words(name) & NOT_OURS) or name.lower() in EMPTY_ALONE


def test_names_are_taken_apart():
    assert words("HTTPBackends_of_aNode") >= {"http", "backend", "node"}
    assert [wrong(name) for name in ("NodeTree", "common", "common_prefix", "anode")] == [True, True, False, False]


def test_no_name_says_nothing():
    names = [(f"{source}: {name}", each.name) for source in SOURCES for name, each in source.definitions()]
    names += [(str(source), source.path.stem) for source in SOURCES]
    assert not [place for place, name in names if wrong(name)]


def test_no_folder_says_nothing():
    folders = {path for source in SOURCES for path in source.path.parents}
    assert not [str(folder) for folder in folders if wrong(folder.name)]


def test_the_words_left_out_are_written_down():
    text = read("CONTEXT.md")
    assert not [word for word in NOT_OURS | EMPTY_ALONE if word not in text]


def test_every_package_is_in_the_architecture():
    packages = [path.name for path in (ROOT / "gatewayd").iterdir() if (path / "__init__.py").is_file()]
    text = read("ARCHITECTURE.md")
    assert not [name for name in packages if not re.search(rf"`?\b{name}\b", text)]
