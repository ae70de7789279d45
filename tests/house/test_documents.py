"""Documents tell the truth: links resolve, every dependency has its reason, the changelog has its form."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import gatewayd
from gatewayd.config.load import load
from gatewayd.gateway.chains import CONFIGS

from .tree import ROOT, files, read, sources

PYPROJECT = tomllib.loads(read("pyproject.toml"))
PAGES = files(".md")
REASONS = "docs/design/002-dependencies.md"
PROGRAMS = {"gunicorn", "httpbin", "import-linter", "mypy", "pytest-timeout", "rotel", "ruff"}
"""Development tools that are run, not imported."""
IMPORTED_AS = {
    "argon2-cffi": "argon2",
    "google-re2": "re2",
    "hdrhistogram": "hdrh",
    "opentelemetry-proto": "opentelemetry",
    "protobuf": "google",
    "tzdata": "zoneinfo",
}
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def without_code(text: str) -> str:
    """Markdown without fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links of a page to files or headings that are not there; those to other sites are not followed."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(read(str(page)))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page.parent / path) if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_resolve(page):
    assert not broken_links(page)


def test_every_document_is_reached_from_the_index():
    index = re.findall(r"\]\(([^)#\s]+)", read("docs/README.md"))
    linked = {(ROOT / "docs" / link).resolve() for link in index}
    below = [ROOT / path for path in PAGES if path.parts[0] == "docs" and path != Path("docs/README.md")]
    assert not [str(path) for path in below if path not in linked]


def requirements() -> set[str]:
    """The names of everything pyproject.toml asks for, extras included."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    lines = [
        *PYPROJECT["build-system"]["requires"],
        *project["dependencies"],
        *(each for extra in extras for each in extra),
    ]
    return names(lines)


def names(lines: list[str]) -> set[str]:
    """The names in lines such as `uvloop>=0.22`."""
    return {re.match(r"[\w.-]+", line)[0].lower() for line in lines}


def test_every_dependency_has_its_reason_and_every_reason_its_dependency():
    reasons = dict(re.findall(r"^- `([\w.-]+)`: (.+)$", read(REASONS), re.MULTILINE))
    assert set(reasons) == requirements()
    assert not [name for name, reason in reasons.items() if len(reason) < 30]


def imported(*below: str) -> set[str]:
    """The top-level packages imported somewhere below these folders."""
    found = set()
    for source in sources(*below):
        for each in ast.walk(source.tree):
            if isinstance(each, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in each.names}
            elif isinstance(each, ast.ImportFrom) and each.module and not each.level:
                found.add(each.module.partition(".")[0])
    return found


@pytest.mark.parametrize(("kind", "below"), [("run", "gatewayd"), ("bench", "benchmarks"), ("dev", "tests")])
def test_every_dependency_is_used(kind, below):
    project = PYPROJECT["project"]
    asked = project["dependencies"] if kind == "run" else project["optional-dependencies"][kind]
    packages = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names(asked) - PROGRAMS}
    unused = sorted(packages - imported(below))
    assert unused == []


def test_what_is_imported_is_asked_for():
    """What happens to be there because something else needs it is not there for users."""
    extras = [name for kind in ("redis", "postgres") for name in PYPROJECT["project"]["optional-dependencies"][kind]]
    asked = {
        IMPORTED_AS.get(name, name.replace("-", "_")) for name in names(PYPROJECT["project"]["dependencies"] + extras)
    }
    assert imported("gatewayd") - asked - sys.stdlib_module_names <= {"gatewayd"}


def test_the_changelog_keeps_its_form():
    text = read("CHANGELOG.md")
    assert text.startswith("# Changelog\n")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= KINDS


def test_the_version_is_said_once_and_the_same():
    assert gatewayd.__version__ == PYPROJECT["project"]["version"]


def test_the_licence_is_apache_2():
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in read("LICENSE")
    assert "END OF TERMS AND CONDITIONS" in read("LICENSE")


def test_the_configuration_in_the_readme_is_one(tmp_path):
    text, more = re.findall(r"^```toml\n(.*?)^```", read("README.md"), re.DOTALL | re.MULTILINE)
    conf = tmp_path / "conf.toml"
    conf.write_text(text)
    document = load(conf, {}, CONFIGS).document
    assert list(document.routes) == ["policies"]
    assert len([line for line in text.splitlines() if line]) <= 12
    (tmp_path / "pepper").write_text("p" * 40)
    (tmp_path / "consumers.jsonl").touch()
    conf.write_text(text + more.replace("/etc/gatewayd", str(tmp_path)))
    assert set(load(conf, {}, CONFIGS).document.policies) == {"api_key", "fair"}


def test_the_readme_has_the_two_commands_and_no_gap():
    text = read("README.md")
    assert "./scripts/run" in text
    assert "./scripts/test" in text
    assert "to be filled" not in text.lower()
