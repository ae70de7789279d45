"""Certificates and keys as files: what they hold, and what is wrong with them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from gatewayd.config.model import Certificate
from gatewayd.errors import Fault
from gatewayd.wire import tls_files
from gatewayd.wire.tls_files import Chain
from tests.wire.certificates import Authority


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def looked_into(file: Certificate) -> tuple[Chain, list[Fault]]:
    faults: list[Fault] = []
    return Chain(file, "c", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), faults), faults


def test_a_chain_serves_the_dns_names_of_its_leaf(ca: Authority) -> None:
    chain, faults = looked_into(ca.issue("API.example", "*.b.example", "10.0.0.7", common="not-a-name.example"))
    assert (chain.names, faults) == (["api.example", "*.b.example"], [])
    assert chain.expires == 4102444800.0


def test_types_of_keys_differ(ca: Authority) -> None:
    elliptic, _ = looked_into(ca.issue("a.example"))
    classic, _ = looked_into(ca.issue("a.example", key_type="rsa"))
    assert len({elliptic.key_type, classic.key_type, ""}) == 3


def test_a_key_too_small_is_the_certificates_fault(ca: Authority) -> None:
    # OpenSSL's own words, because the files to provoke them differ between its versions.
    assert "too_small" in tls_files._why("EE_KEY_TOO_SMALL")
    assert "not the key" in tls_files._why("KEY_VALUES_MISMATCH")
    assert "not the key" in tls_files._why("KEY_TYPE_MISMATCH")
    assert "no private key" in tls_files._why("PEM_LIB")


def test_a_place_has_one_fault(ca: Authority) -> None:
    chain, faults = looked_into(Certificate(cert="/missing", key=""))
    assert (chain.key_type, [fault.path for fault in faults]) == ("", ["c.cert"])
    assert faults[0].found == "/missing"


def test_trusted_keeps_every_certificate_and_nothing_else(ca: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "Other CA")
    both = tmp_path / "both.pem"
    both.write_text("remark\n" + Path(ca.file).read_text() + "another\n" + Path(other.file).read_text())
    faults: list[Fault] = []
    text = tls_files.trusted(str(both), "ca", faults)
    assert (text.count("BEGIN CERTIFICATE"), "remark" in text, faults) == (2, False, [])
    assert tls_files.trusted("/missing", "ca", faults) == ""
    assert [fault.path for fault in faults] == ["ca"]
