"""Certificates that have expired or will soon: said, and no fault."""

from __future__ import annotations

import pytest

from gatewayd.config.check import check
from gatewayd.config.expiry import expiring
from gatewayd.config.model import decode

from .authority import DAY, NOW, make_pair


def document(cert, key):
    pair = {"cert": str(cert), "key": str(key)}
    return decode(
        {
            "listeners": {"tls": {"address": "127.0.0.1:0", "tls": {"certificates": [pair]}}},
            "upstreams": {"up": {"targets": [{"address": "127.0.0.1:1"}], "tls": pair}},
        }
    )


@pytest.mark.parametrize(
    ("days", "now", "message"),
    [
        (90, NOW, ""),
        (14, NOW, ""),
        (14, NOW + DAY / 24, "the certificate expires at 2026-06-15 00:00 UTC"),
        (1, NOW + DAY, "the certificate expired at 2026-06-02 00:00 UTC"),
        (90, NOW - 400 * DAY, "the certificate is not valid before 2025-06-01 00:00 UTC"),
    ],
)
def test_what_is_said_when(tmp_path, days, now, message):
    shown = document(*make_pair(tmp_path, "a.example", days=days))
    found = [(fault.path, fault.message) for fault in expiring(shown, now=now)]
    paths = ["listeners.tls.tls.certificates[0].cert", "upstreams.up.tls.cert"]
    assert found == ([(path, message) for path in paths] if message else [])
    assert check(shown) == []


def test_only_the_first_certificate_of_a_chain_counts(tmp_path):
    cert, key = make_pair(tmp_path, "a.example")
    old, _ = make_pair(tmp_path, "old.example", days=-1)
    cert.write_bytes(cert.read_bytes() + old.read_bytes())
    assert expiring(document(cert, key), now=NOW) == []


def test_files_that_cannot_be_read_are_said_elsewhere(tmp_path):
    assert expiring(document(tmp_path / "none", tmp_path / "none"), now=NOW) == []
    assert expiring(decode({"listeners": {"http": {"address": "127.0.0.1:0"}}}), now=NOW) == []
