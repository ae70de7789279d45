"""Nothing unfinished, nothing of the machine it was written on, and scripts one can read."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from .tree import ROOT, files, read

SCRIPTS = [path for path in files() if path.parts[0] in ("scripts", ".ci")]
TEXTS = [
    path
    for path in files()
    if path.suffix in ("", ".py", ".md", ".toml", ".sh", ".json", ".yml", ".yaml", ".service", ".svg")
]
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK|NotImpl" r"ementedError)\b")
PRIVATE_PATH = re.compile(r"(^|[^A-Za-z0-9_.])/(wo" r"rk|ro" r"ot|ho" r"me)/")


def found(pattern: re.Pattern[str]) -> list[str]:
    """Where the pattern occurs in the project's texts."""
    lines = [(path, number, line) for path in TEXTS for number, line in enumerate(read(str(path)).splitlines(), 1)]
    return [f"{path}:{number}: {line.strip()[:80]}" for path, number, line in lines if pattern.search(line)]


def test_nothing_is_left_unfinished():
    assert not found(UNFINISHED)


def test_no_path_of_somebodys_machine():
    assert not found(PRIVATE_PATH)


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_scripts_are_short_and_run(path):
    text = read(str(path))
    assert os.access(ROOT / path, os.X_OK)
    assert text.startswith(("#!/bin/sh\n", "#!/usr/bin/env bash\n"))
    assert text.count("\n") <= 25
    shell = "bash" if "bash" in text.splitlines()[0] else "sh"
    assert subprocess.run([shell, "-n", str(ROOT / path)], check=False).returncode == 0


def test_ci_runs_what_a_person_runs():
    assert "exec ./scripts/test" in read(".ci/run")
