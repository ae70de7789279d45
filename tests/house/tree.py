"""The project's files as the rules see them: paths relative to its root, sources parsed once."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NOT_OURS = {"run", "dist", "build", "node_modules", "__pycache__"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class Source:
    """A Python file."""

    path: Path
    text: str
    tree: ast.Module

    def __str__(self) -> str:
        return str(self.path)

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return self.text.count("\n")

    def definitions(self) -> Iterator[tuple[str, Definition]]:
        """Every class and function in it, however deep, with its dotted name."""
        yield from _definitions(self.tree, "")

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function in it, however deep, with its dotted name."""
        return ((name, each) for name, each in self.definitions() if not isinstance(each, ast.ClassDef))


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            name = f"{prefix}{child.name}"
            yield name, child
            yield from _definitions(child, f"{name}.")
        else:
            yield from _definitions(child, prefix)


@cache
def files(suffix: str = "") -> tuple[Path, ...]:
    """All files of the project that end in `suffix`; build products and hidden folders but .ci left out."""
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in _NOT_OURS and (name == ".ci" or name[0] != ".")]
        found += [Path(folder, name).relative_to(ROOT) for name in names if name.endswith(suffix)]
    return tuple(sorted(found))


@cache
def sources(*below: str) -> tuple[Source, ...]:
    """The Python files below these folders."""
    chosen = [path for path in files(".py") if path.parts[0] in below]
    texts = [(path, (ROOT / path).read_text()) for path in chosen]
    return tuple(Source(path, text, ast.parse(text, str(path))) for path, text in texts)


def read(path: str) -> str:
    """The text of a file that must be there."""
    return (ROOT / path).read_text()
