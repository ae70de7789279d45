"""The key that signs: made once, kept to this user, replaced without a break."""

from __future__ import annotations

import os
import stat
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gatewayd.audit import keys as module
from gatewayd.audit.frames import HEAD, MAC, Frame
from gatewayd.audit.keys import (
    FOLDER,
    SigningKeyError,
    give_to_owner,
    is_signed,
    key_id,
    load_public,
    load_public_pem,
    load_signer,
    pem_of,
    public_keys,
    rotate,
    signer_at,
)
from tests.support.evidence import somebody


def test_a_key_is_made_at_the_first_start_and_found_at_the_next(tmp_path):
    first = load_signer(tmp_path)
    assert load_signer(tmp_path).id == first.id == key_id(first.public)
    path = tmp_path / FOLDER / "signing.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {name: key_id(key) for name, key in public_keys(tmp_path).items()} == {first.id: first.id}
    assert load_public(tmp_path / FOLDER / "keys" / f"{first.id}.pem").public_bytes_raw() == (
        first.public.public_bytes_raw()
    )
    assert not list(path.parent.glob(".*"))


def test_who_comes_first_wins(tmp_path):
    found = []
    both = threading.Barrier(4)

    def load():
        both.wait()
        found.append(load_signer(tmp_path).id)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(found)) == 1


def test_a_key_is_looked_for_without_making_one(tmp_path):
    assert signer_at(tmp_path) is None
    assert not (tmp_path / FOLDER).exists()
    made = load_signer(tmp_path)
    assert signer_at(tmp_path).id == made.id


def test_what_is_derived_from_a_key_is_the_same_for_the_same_key_only(tmp_path):
    one, again, other = load_signer(tmp_path), load_signer(tmp_path), somebody()
    assert one.mac(b"p" * 32) == again.mac(b"p" * 32) != other.mac(b"p" * 32)
    assert len(one.mac(b"p" * 32)) == MAC
    assert one.pseudonyms == again.pseudonyms != other.pseudonyms
    assert one.mac(one.pseudonyms) != one.pseudonyms[:MAC]


def test_signatures_hold_for_kind_place_and_text(tmp_path):
    signer = load_signer(tmp_path)
    frame = Frame(HEAD, b"p" * 32, signer.body(HEAD, b"p" * 32, b"said"), 0, 0)
    assert is_signed(signer.public, frame)
    assert not is_signed(somebody().public, frame)
    for other in (
        frame._replace(kind=HEAD + 1),
        frame._replace(previous=b"q" * 32),
        frame._replace(body=frame.body + b"!"),
        frame._replace(body=b""),
    ):
        assert not is_signed(signer.public, other)


def test_a_signer_shows_no_secret(tmp_path):
    signer = load_signer(tmp_path)
    assert repr(signer) == f"Signer({signer.id!r})"


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_a_file_that_is_no_key(tmp_path, content):
    (tmp_path / FOLDER).mkdir()
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / FOLDER / "signing.key").write_bytes(other if content is None else content)
    for load in (load_signer, signer_at):
        with pytest.raises(SigningKeyError):
            load(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(SigningKeyError, match="the key that signs the audit"):
        load_signer(tmp_path)


def test_public_keys_in_pem(tmp_path):
    signer = somebody()
    assert key_id(load_public_pem(pem_of(signer.public), "here")) == signer.id
    with pytest.raises(SigningKeyError, match="here: this is no public key in PEM"):
        load_public_pem(b"?", "here")
    other = generate_private_key(SECP256R1()).public_key()
    with pytest.raises(SigningKeyError, match="here: the key is to be an Ed25519 one"):
        load_public_pem(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "here")
    with pytest.raises(SigningKeyError, match="No such file"):
        load_public(tmp_path / "none.pem")


def test_a_key_is_replaced_once_the_old_one_has_signed_for_it(tmp_path):
    old = load_signer(tmp_path)
    told = []

    def announce(*both):
        assert load_signer(tmp_path).id == old.id
        told.append([each.id for each in both])

    new = rotate(tmp_path, announce)
    assert told == [[old.id, new.id]]
    assert load_signer(tmp_path).id == new.id != old.id
    assert set(public_keys(tmp_path)) == {old.id, new.id}
    assert stat.S_IMODE((tmp_path / FOLDER / "signing.key").stat().st_mode) == 0o600


def test_a_key_that_is_not_signed_for_does_not_come(tmp_path):
    old = load_signer(tmp_path)

    def announce(*_):
        raise SigningKeyError("no")

    with pytest.raises(SigningKeyError):
        rotate(tmp_path, announce)
    assert load_signer(tmp_path).id == old.id
    assert not list((tmp_path / FOLDER).glob(".*"))


def test_what_root_makes_goes_to_the_folders_owner(tmp_path, monkeypatch):
    path = tmp_path / "made"
    path.touch()
    given = []
    monkeypatch.setattr(os, "chown", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    give_to_owner(path)
    assert given == []  # it is the same already

    class Other:
        st_uid, st_gid = 12, 34

    real = module.Path.stat
    monkeypatch.setattr(module.Path, "stat", lambda each, **o: Other if each == tmp_path else real(each, **o))
    give_to_owner(path)
    assert given == [(path, 12, 34)]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    give_to_owner(path)
    assert len(given) == 1
