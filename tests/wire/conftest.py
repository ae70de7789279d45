"""Certificates that several tests of TLS share."""

from __future__ import annotations

import pytest

from tests.wire.certificates import Authority
from tests.wire.handshakes import House


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("certificates")
    ca, stranger = Authority(folder), Authority(folder, "Strange CA")
    return House(
        ca,
        stranger,
        first=ca.issue("first.example", "deep.wild.example"),
        wild=ca.issue("*.wild.example"),
        client=ca.issue(common="partner-7", client=True),
        strange_client=stranger.issue(common="partner-7", client=True),
    )
