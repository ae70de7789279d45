"""Sizes: files one can read at a sitting, functions one can see at a glance."""

from __future__ import annotations

import ast
from statistics import median

from .tree import Function, read, sources

FILE, FUNCTION, MEDIAN, NINETIETH = 400, 50, 10, 40


def length(function: Function) -> int:
    """Lines of a function, its docstring not counted: explaining more must not cost."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        said = function.body[0]
        lines -= said.end_lineno - said.lineno + 1
    return lines


def lengths(*below: str) -> dict[str, int]:
    """The length of every function, by file and name."""
    return {f"{source}: {name}": length(each) for source in sources(*below) for name, each in source.functions()}


def test_a_docstring_is_not_counted():
    assert length(ast.parse('def f():\n    """One.\n\n    Two."""\n    return 1\n').body[0]) == 2


def test_files_are_short():
    assert not {str(each): each.lines for each in sources("gatewayd", "benchmarks", "tests") if each.lines > FILE}


def test_no_function_is_long():
    assert not {name: lines for name, lines in lengths("gatewayd", "benchmarks").items() if lines > FUNCTION}


def test_most_functions_are_short():
    ordered = sorted(lengths("gatewayd").values())
    assert median(ordered) <= MEDIAN
    assert ordered[len(ordered) * 9 // 10] <= NINETIETH


def test_the_architecture_fits_on_a_few_pages():
    assert read("ARCHITECTURE.md").count("\n") <= 150
