"""Calls with one place: `core.tasks.spawn` makes tasks, the command line prints, no test sleeps for luck."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .tree import Source, sources


def called(source: Source) -> Iterator[tuple[str, int]]:
    """Every call as (the last part of what is called, line)."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2], node.lineno


def calls_of(names: set[str], *below: str) -> list[str]:
    """Where functions of these names are called below these folders."""
    return [f"{source}:{line}" for source in sources(*below) for name, line in called(source) if name in names]


def test_tasks_are_made_in_one_place():
    made = calls_of({"create_task", "ensure_future"}, "gatewayd")
    assert {place.partition(":")[0] for place in made} == {"gatewayd/core/tasks.py"}


def test_only_the_command_line_and_the_demo_print():
    printed = calls_of({"print"}, "gatewayd")
    assert not [place for place in printed if not place.startswith(("gatewayd/cli", "gatewayd/demo/"))]


def test_tests_never_sleep_for_luck():
    slept = []
    for source in sources("tests"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
                slept.append(f"{source}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}:
                slept.append(f"{source}:{node.lineno}")
    assert not slept


def test_calls_are_seen_by_their_last_name():
    tree = ast.parse("asyncio.get_running_loop().create_task(x)\nprint(1)\n")
    assert sorted(called(Source(None, "", tree)))[:2] == [("create_task", 1), ("get_running_loop", 1)]
