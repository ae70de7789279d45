"""Every module, public class and public function says what it is."""

from __future__ import annotations

import ast

from .tree import Definition, Source, sources


def test_every_module_says_what_it_is():
    silent = [source for source in sources("gatewayd", "benchmarks", "tests") if not ast.get_docstring(source.tree)]
    assert not [str(source) for source in silent if source.text or source.path.parts[0] == "gatewayd"]


def test_everything_public_says_what_it_is():
    every = [(source, *pair) for source in sources("gatewayd", "benchmarks") for pair in public(source).items()]
    assert not [f"{source}: {name}" for source, name, each in every if not ast.get_docstring(each)]


def public(source: Source) -> dict[str, Definition]:
    """What a reader of other files meets: no name in its path is private, and none stands inside a function."""
    inside = {name for name, _ in source.functions()}
    return {
        name: each
        for name, each in source.definitions()
        if not any(part.startswith("_") for part in name.split("."))
        and not any(name.startswith(f"{function}.") for function in inside)
        and not _says_nothing_new(each)
    }


def _says_nothing_new(each: Definition) -> bool:
    """Marked as another form of a function that says it: an overload, a setter, an override."""
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in each.decorator_list}
    return bool(marks & {"overload", "setter", "override"})


def test_what_is_public():
    text = "class A:\n  def b(self): 1\n  def _c(self): 1\n  def __d__(self): 1\ndef e():\n  def f(): 1\n"
    assert list(public(Source(None, text, ast.parse(text)))) == ["A", "A.b", "e"]
