"""Consumers, keys and tokens of the scenarios are what gatewayd takes for such."""

from __future__ import annotations

import orjson
import pytest

from benchmarks.credentials import AUDIENCE, ISSUER, make_consumers, make_tokens
from gatewayd.identity.api_keys import hasher, recogniser, stored
from gatewayd.identity.jose import members, take_apart
from gatewayd.identity.jwks import read_file


def test_consumers_have_a_key_each(tmp_path):
    made = make_consumers(tmp_path, 20)
    listed = [orjson.loads(line) for line in made.listed.read_text().splitlines()]
    assert [each["id"] for each in listed] == made.names
    assert len(set(made.keys)) == 20
    assert all(map(recogniser("live"), (key.encode() for key in made.keys)))
    assert listed[7]["keys"][0]["hash"] == stored(hasher(made.pepper)(made.keys[7].encode()))
    assert made.map.read_text().splitlines()[7] == f'"{made.keys[7]}" {made.names[7]};'


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return make_tokens(tmp_path_factory.mktemp("tokens"), ["a", "b", "c"], lambda: 1000.0)


def test_tokens_are_signed_by_the_key_in_the_file(tokens):
    keys = read_file(str(tokens.jwks))
    for name, token in zip("abc", tokens.tokens, strict=True):
        signed = take_apart(token.encode())
        assert keys.signer(signed.header.kid, "RS256", signed.signature, signed.content) is not None
        claims = members(signed.payload)
        assert (claims["iss"], claims["aud"], claims["sub"], claims["iat"]) == (ISSUER, AUDIENCE, name, 1000)


def test_the_bare_check_of_a_signature_takes_time(tokens):
    assert tokens.check_us() > 0
