"""Fixtures of the tests of the gateway."""

from __future__ import annotations

import pytest

from tests.gateway.hooks import Trace


@pytest.fixture
def trace() -> Trace:
    return Trace()
