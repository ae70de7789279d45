"""The rules are only as good as their eyes: the sources are found and taken apart rightly."""

from __future__ import annotations

import ast
from pathlib import Path

from .tree import Source, files, sources


def test_all_files_are_seen_and_nothing_of_others():
    seen = {str(path) for path in files()}
    assert {"pyproject.toml", "gatewayd/errors.py", "tests/house/tree.py", "scripts/test", ".ci/run"} <= seen
    assert not [path for path in seen if "site-packages" in path or path.endswith(".pyc")]
    assert len(sources("gatewayd")) > 40


def test_definitions_are_found_however_deep():
    text = "class A:\n  def b(self):\n    if 1:\n      async def c(): pass\ndef d(): pass\n"
    source = Source(Path("a.py"), text, ast.parse(text))
    assert [name for name, _ in source.definitions()] == ["A", "A.b", "A.b.c", "d"]
    assert [name for name, _ in source.functions()] == ["A.b", "A.b.c", "d"]
