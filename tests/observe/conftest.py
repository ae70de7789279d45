"""Where the access log of a test lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.observe.desk import Desk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def desk(path: Path) -> Desk:
    return Desk(str(path))
