"""Wycheproof's vectors: nothing invalid is taken; what valid ones are refused, and why, is written down."""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

import pytest

from gatewayd.identity.jose import Refused, take_apart
from gatewayd.identity.jwk import KeySet, key_of, key_set
from tests.house.tree import ROOT

FOLDER = ROOT.parent / "shared" / "data" / "wycheproof"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="Wycheproof's vectors are not here (shared/data/wycheproof)"
)

REFUSED_THOUGH_VALID = {
    ("signature", 346): "signature",  # the key says PS256, the token is signed with PS384
    ("signature", 350): "signature",  # likewise
    ("signature", 347): "key_algorithm",  # the key says ES521, which is no algorithm
    ("signature", 351): "key_algorithm",  # likewise
    ("signature", 372): "encoding",  # a "?" in the header's base64, called valid because some decoders skip it
    ("signature", 373): "encoding",  # and in the payload's
}


class Vector(NamedTuple):
    """A token, the keys to check it with, and whether that should succeed."""

    name: tuple[str, int]
    keys: list[dict[str, object]]
    token: str
    valid: bool


def vectors(kind):
    for group in json.loads((FOLDER / f"json_web_{kind}_test.json").read_text())["testGroups"]:
        document = group.get("public") or group["private"]
        for test in group["tests"]:
            text = test["jws"] if isinstance(test["jws"], str) else json.dumps(test["jws"])
            yield Vector((kind, test["tcId"]), document.get("keys", [document]), text, test["result"] == "valid")


def keys_of(entries):
    """Sets of secrets stand for secrets of the configuration; all others are what issuers publish."""
    if all(each.get("kty") == "oct" for each in entries):
        return KeySet([key_of(each) for each in entries])
    if len(entries) == 1:
        key_of(entries[0])  # says why, where the set would only leave it out
    return key_set({"keys": entries})


def verdict(vector):
    """Why it is refused; "" if it is taken."""
    try:
        keys = keys_of(vector.keys)
        found = take_apart(vector.token.encode())
    except Refused as error:
        return error.reason
    key = keys.signer(found.header.kid, found.header.algorithm, found.signature, found.content)
    return "" if key is not None else "signature"


@pytest.fixture(scope="module")
def verdicts():
    return [(vector, verdict(vector)) for kind in ("signature", "key") for vector in vectors(kind)]


def contradicted(found):
    """Invalid vectors that are, token and keys, byte for byte the same as a valid one: nobody can tell them apart."""
    valid = {(vector.token, json.dumps(vector.keys)) for vector, _ in found if vector.valid}
    return {vector.name for vector, _ in found if not vector.valid and (vector.token, json.dumps(vector.keys)) in valid}


def test_nothing_invalid_is_taken(verdicts):
    taken = {vector.name for vector, why in verdicts if not vector.valid and not why}
    assert taken == contradicted(verdicts) == {("signature", 367), ("signature", 370)}


def test_which_valid_ones_are_refused(verdicts):
    assert {vector.name: why for vector, why in verdicts if vector.valid and why} == REFUSED_THOUGH_VALID


def test_all_vectors_were_tried(verdicts):
    assert Counter(vector.valid for vector, _ in verdicts) == {True: 51, False: 376}


@pytest.mark.parametrize(
    ("number", "why"),
    [(1, "key_set"), (4, "encoding"), (7, "key_weak"), (8, "key_weak"), (9, "key_malformed"), (19, "key_algorithm")],
)
def test_bad_keys_are_refused_for_the_right_reason(verdicts, number, why):
    (found,) = [each for vector, each in verdicts if vector.name == ("key", number)]
    assert found == why
