"""Every module, public class and public function says what it is."""

from __future__ import annotations

import ast
import asyncio

from .tree import Definition, Source, sources


def test_every_module_says_what_it_is():
    """All but tests, whose names say it: tests/a/test_b.py is about gatewayd/a/b.py."""
    silent = [source for source in sources("gatewayd", "benchmarks", "tests") if not ast.get_docstring(source.tree)]
    assert not [str(each) for each in silent if each.path.name[:5] != "test_" and (each.text or not _is_test(each))]


def _is_test(source: Source) -> bool:
    return source.path.parts[0] == "tests"


def test_everything_public_says_what_it_is():
    ours = sources("gatewayd", "benchmarks")
    known = CALLED_BY_OTHERS | said_by_interfaces(ours)
    silent = []
    for source in ours:
        found = public(source).items()
        silent += [f"{source}: {name}" for name, each in found if not _says(each) and not _is_said(name, known)]
    assert not silent


CALLED_BY_OTHERS = {name for name in dir(asyncio.Protocol) if name[0] != "_"} | {
    "on_body",
    "on_header",
    "on_headers_complete",
    "on_message_complete",
    "on_url",
}
"""Methods that asyncio and httptools name and call; their documents say when."""


def said_by_interfaces(ours: tuple[Source, ...]) -> set[str]:
    """The methods that a `Protocol` of ours documents: what implements one need not say it again."""
    return {
        method.name
        for source in ours
        for _, each in source.definitions()
        if isinstance(each, ast.ClassDef) and any(ast.unparse(base).startswith("Protocol") for base in each.bases)
        for method in each.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and _says(method)
    }


def _says(each: Definition) -> bool:
    return ast.get_docstring(each) is not None


def _is_said(name: str, known: set[str]) -> bool:
    """Whether `name` is a method that an interface has described."""
    kind, _, method = name.rpartition(".")
    return bool(kind) and method in known


def public(source: Source) -> dict[str, Definition]:
    """What a reader of other files meets: no name in its path is private, and none stands inside a function."""
    inside = {name for name, _ in source.functions()}
    return {
        name: each
        for name, each in source.definitions()
        if not any(part.startswith("_") for part in name.split("."))
        and not any(name.startswith(f"{function}.") for function in inside)
        and not _is_another_form(each)
    }


def _is_another_form(each: Definition) -> bool:
    """Marked as another form of a function that says it: an overload, a setter, an override."""
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in each.decorator_list}
    return bool(marks & {"overload", "setter", "override"})


def test_what_is_public():
    text = "class A:\n  def b(self): 1\n  def _c(self): 1\n  def __d__(self): 1\ndef e():\n  def f(): 1\n"
    assert list(public(Source(None, text, ast.parse(text)))) == ["A", "A.b", "e"]


def test_what_interfaces_say():
    text = (
        'class A(Protocol[T]):\n  def b(self):\n    "Says."\n  def c(self): 1\nclass D:\n  def e(self):\n    "Says."\n'
    )
    assert said_by_interfaces((Source(None, text, ast.parse(text)),)) == {"b"}
    assert [_is_said(name, {"b"}) for name in ("X.b", "b", "X.c")] == [True, False, False]
