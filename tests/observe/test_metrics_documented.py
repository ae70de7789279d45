"""docs/metrics.md names every metric there is, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "gatewayd/server/exposition.py").read_text()
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
SUFFIXES = re.compile(r"_(total|info|bucket)$")


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    made = set(re.findall(r'"(gatewayd_[a-z_]+)"', PAGE))
    documented = {SUFFIXES.sub("", name) for name in re.findall(r"\b(gatewayd_[a-z_]+)", DOCUMENT)}
    assert made == documented
