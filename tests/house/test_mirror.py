"""Tests mirror sources: gatewayd/a/b.py is tested by tests/a/test_b.py, and tests/a/ tests nothing else."""

from __future__ import annotations

from pathlib import Path

from .tree import ROOT, files, sources

WITHOUT_TEST = {
    "gatewayd/__main__.py": "two lines; tests/process starts it",
}
OF_THEIR_OWN = {"house", "wire", "process", "benchmarks"}
"""Folders of tests/ that hold more than a mirror: rules, RFC tables, real processes, the harness."""


def mirrored() -> list[Path]:
    """The sources that need a test of their own: all but packages' `__init__`."""
    return [source.path for source in sources("gatewayd") if source.path.name != "__init__.py"]


def place_of(path: Path) -> Path:
    """Where the test of a source stands."""
    return Path("tests", *path.parts[1:-1], f"test_{path.name}")


def test_every_source_has_its_test():
    missing = {str(path) for path in mirrored() if not (ROOT / place_of(path)).is_file()}
    assert sorted(missing - set(WITHOUT_TEST)) == []
    assert sorted(set(WITHOUT_TEST) - missing) == []


def test_every_test_has_its_source():
    """A long subject may take several files: test_pool.py and test_pool_limits.py both belong to pool.py."""
    known = {place_of(path).with_suffix("") for path in mirrored()}
    tests = [path.with_suffix("") for path in files(".py") if path.parts[0] == "tests" and path.name[:5] == "test_"]
    stray = [
        path for path in tests if path.parts[1] not in OF_THEIR_OWN and not any(_belongs(path, of) for of in known)
    ]
    assert not stray


def _belongs(test: Path, of: Path) -> bool:
    return test.parent == of.parent and (test.name == of.name or test.name.startswith(f"{of.name}_"))


def test_every_folder_of_tests_is_a_package():
    """Or two files of one name could not be told apart."""
    folders = {path.parent for path in files(".py") if path.parts[0] == "tests"}
    assert not [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()]
