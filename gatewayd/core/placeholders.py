"""Texts of the configuration with `{names}` to be filled in per exchange, taken apart once at load."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\{\{|\}\}|\{([a-z_][A-Za-z0-9_.]*)\}|[{}]|[^{}]+")


def parts(text: str) -> list[tuple[str, str]]:
    """`text` as `(literal, name)` pairs: what stands before each placeholder, and its name ("" at the end).

    `{{` and `}}` stand for braces. Raises `ValueError` for a brace that is no part of a placeholder.
    """
    found: list[tuple[str, str]] = []
    literal = ""
    for match in _PIECE.finditer(text):
        piece, name = match[0], match[1]
        if name:
            found.append((literal, name))
            literal = ""
        elif piece in ("{", "}"):
            raise ValueError("a brace is no part of a placeholder; write {{ or }} for the brace itself")
        else:
            literal += piece[0] if piece in ("{{", "}}") else piece
    if literal or not found:
        found.append((literal, ""))
    return found
