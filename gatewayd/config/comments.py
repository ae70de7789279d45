"""What the source says of each option: the comment behind it, or the docstring below it."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize

from msgspec import Struct


def descriptions(kind: type[Struct]) -> dict[str, str]:
    """The description of each option of a struct that has one, by its name in Python. Reads the source file."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, Struct) and each.__module__ != Struct.__module__:
            found |= _own(each)
    return found


def _own(kind: type[Struct]) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(kind))
    behind = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for node, following in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        text = _docstring(following) or behind.get(node.end_lineno or 0, "")
        if text:
            found[node.target.id] = text
    return found


def _docstring(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return ""
