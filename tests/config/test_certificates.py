"""Certificates and keys: which can serve, and why others cannot."""

from __future__ import annotations

import pytest

from gatewayd.config.certificates import PemError, check_authorities, check_chain, check_key

from .authority import make_pair


def test_a_pair_that_fits(tmp_path):
    cert, key = make_pair(tmp_path, "a.example")
    check_key(str(key), check_chain(str(cert)))
    check_key(str(key), None)
    check_authorities(str(cert))


def test_an_expired_authority_does_no_harm(tmp_path):
    cert, _ = make_pair(tmp_path, "a.example", days=-1)
    check_authorities(str(cert))


def test_a_key_of_another_certificate(tmp_path):
    cert, _ = make_pair(tmp_path, "a.example")
    _, other = make_pair(tmp_path, "b.example")
    with pytest.raises(PemError, match="not the certificate's"):
        check_key(str(other), check_chain(str(cert)))


def test_an_encrypted_key(tmp_path):
    _, key = make_pair(tmp_path, "a.example", password=b"hunter2")
    with pytest.raises(PemError, match="encrypted"):
        check_key(str(key), None)


@pytest.mark.parametrize("content", [b"", b"hunter2", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_files_that_hold_something_else(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    for use in (check_authorities, lambda p: check_chain(p), lambda p: check_key(p, None)):
        with pytest.raises(PemError, match="no PEM") as raised:
            use(str(path))
        assert "hunter2" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path):
    for use in (check_authorities, lambda p: check_chain(p), lambda p: check_key(p, None)):
        with pytest.raises(PemError, match="cannot be read: No such file"):
            use(str(tmp_path / "missing"))
        with pytest.raises(PemError, match="cannot be read: Is a directory"):
            use(str(tmp_path))
