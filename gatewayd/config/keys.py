"""Dotted keys: how an option's place is written in errors, `routes."a.b".targets[0].address`."""

from __future__ import annotations

import json
import re

Key = tuple[str | int, ...]
"""Names of tables and options, indices (from 0) into lists."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r'\[(\d+)\]|\.?(?:("(?:[^"\\]|\\.)*")|([^.\["]+))')


def join(key: Key) -> str:
    """The dotted text of `key`; names that are no bare TOML keys stand in quotes."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else json.dumps(part))
    return text


def split(path: str) -> Key:
    """The parts of a dotted text; the reverse of `join`."""
    parts: list[str | int] = []
    for index, quoted, bare in _PART.findall(path):
        parts.append(int(index) if index else json.loads(quoted) if quoted else bare)
    return tuple(parts)
