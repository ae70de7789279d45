"""Line numbers of the options of a TOML text. Imported only when there is an error to place.

`tomllib` forgets where a value stood; tree-sitter's grammar keeps it.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from gatewayd.config.keys import Key

_LANGUAGE = Language(tree_sitter_toml.language())
_KEYS = ("bare_key", "quoted_key", "dotted_key")


def lines(text: bytes) -> dict[Key, int]:
    """The line (from 1) where each table, option and list item of a valid TOML text is first named."""
    found: dict[Key, int] = {}
    arrays: Counter[Key] = Counter()
    for node in Parser(_LANGUAGE).parse(text).root_node.named_children:
        for key, line in _places(node, (), arrays):
            for depth in range(1, len(key) + 1):
                found.setdefault(key[:depth], line)
    return found


def _places(node: Node, above: Key, arrays: Counter[Key]) -> Iterator[tuple[Key, int]]:
    """The options `node` names, itself first. `arrays` counts the `[[tables]]` seen so far."""
    line = node.start_point[0] + 1
    if node.type == "pair":
        key = above + _parts(node.named_children[0])
        yield key, line
        yield from _places_in_value(node.named_children[-1], key, arrays)
    elif node.type in ("table", "table_array_element"):
        key = _in_arrays(_parts(node.named_children[0]), arrays)
        if node.type == "table_array_element":
            arrays[key] += 1
            key = (*key, arrays[key] - 1)
        yield key, line
        for child in node.named_children[1:]:
            yield from _places(child, key, arrays)


def _places_in_value(node: Node, key: Key, arrays: Counter[Key]) -> Iterator[tuple[Key, int]]:
    if node.type == "inline_table":
        for child in node.named_children:
            yield from _places(child, key, arrays)
    elif node.type == "array":
        items = [child for child in node.named_children if child.type != "comment"]
        for index, item in enumerate(items):
            yield (*key, index), item.start_point[0] + 1
            yield from _places_in_value(item, (*key, index), arrays)


def _parts(node: Node) -> tuple[str, ...]:
    """The names of a bare, quoted or dotted key."""
    if node.type == "dotted_key":
        return tuple(part for child in node.named_children if child.type in _KEYS for part in _parts(child))
    text = (node.text or b"").decode()
    return (text if node.type == "bare_key" else next(iter(tomllib.loads(f"{text} = 0"))),)


def _in_arrays(names: tuple[str, ...], arrays: Counter[Key]) -> Key:
    """`names` of a header with the index of the current `[[table]]` put in behind each array above it."""
    key: Key = ()
    for depth, name in enumerate(names, 1):
        key = (*key, name)
        if arrays[key] and depth < len(names):
            key = (*key, arrays[key] - 1)
    return key
