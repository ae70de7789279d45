"""How records name what they don't tell."""

from __future__ import annotations

import pytest

from gatewayd.audit import masking as module
from gatewayd.audit.masking import masking, pseudonyms

KEY = bytes(range(32))


def test_a_value_has_one_pseudonym_under_a_key():
    one, other = pseudonyms(KEY), pseudonyms(KEY[::-1])
    assert one(b"POL-1") == one(b"POL-1") == pseudonyms(KEY)(b"POL-1") != one(b"POL-2")
    assert other(b"POL-1") != one(b"POL-1")
    assert len(one(b"")) == 8


@pytest.mark.parametrize(
    ("how", "address", "shown"),
    [
        ("full", "192.0.2.77", "192.0.2.77"),
        ("none", "192.0.2.77", ""),
        ("masked", "192.0.2.77", "192.0.2.0/24"),
        ("masked", "2001:db8:1:2::3", "2001:db8:1::/48"),
        ("masked", "fe80::1%eth0", "fe80::/48"),
        ("masked", "::ffff:192.0.2.77", "192.0.2.0/24"),
        ("masked", "", ""),
        ("masked", "unix", ""),
    ],
)
def test_addresses_are_shown_as_configured(how, address, shown):
    mask = masking(how)
    assert mask(address) == mask(address) == shown


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    pseudonym, mask = pseudonyms(KEY), masking("masked")
    found = [(pseudonym(b"%d" % n), mask(f"192.0.{n}.1")) for n in (*range(9), *range(9))]
    assert found[:9] == found[9:]
