"""The form of API keys, and what is stored of them."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import string

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.identity import api_keys
from gatewayd.identity.api_keys import ALPHABET, RANDOM, fit_elsewhere, hasher, hint, new_key, recogniser, stored

LIVE = recogniser("live")
KEY = new_key("live").encode()
ENVIRONMENTS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=16)


@given(ENVIRONMENTS)
def test_a_new_key_is_recognised_where_it_belongs(environment):
    key = new_key(environment)
    assert re.fullmatch(rf"gw_{environment}_[0-9A-Za-z]{{32}}_[0-9a-f]{{8}}", key)
    assert recogniser(environment)(key.encode())


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_a_key_of_another_environment_is_not(one, other):
    assert recogniser(other)(new_key(one).encode()) is (one == other)


@given(st.binary(max_size=80))
def test_garbage_is_not(text):
    assert not LIVE(text)


@given(st.integers(0, len(KEY) - 1), st.integers(1, 255))
def test_no_key_with_one_byte_changed_is(at, change):
    changed = bytearray(KEY)
    changed[at] ^= change
    assert not LIVE(bytes(changed))


@given(st.integers(0, len(KEY) - 2))
def test_no_key_with_two_neighbours_swapped_is(at):
    swapped = KEY[:at] + KEY[at + 1 : at + 2] + KEY[at : at + 1] + KEY[at + 2 :]
    assert LIVE(swapped) is (swapped == KEY)


def test_no_key_that_is_cut_longer_or_padded_is():
    assert not any(LIVE(text) for text in (KEY[:-1], KEY[1:], KEY + b"0", b" " + KEY, KEY + b" ", KEY.upper(), b""))


def test_the_checksum_is_written_in_one_way_only():
    assert not any(LIVE(KEY[:-8] + other) for other in (KEY[-8:].upper(), b"0x" + KEY[-6:]) if other != KEY[-8:])


def test_keys_are_random_enough_and_differ():
    assert RANDOM * math.log2(len(ALPHABET)) >= 190
    assert len(set(ALPHABET)) == 62
    assert len({new_key("live") for _ in range(1_000)}) == 1_000


@given(st.binary(max_size=300), st.text(min_size=32, max_size=100))
def test_the_hash_is_hmac_sha_256(key, pepper):
    assert hasher(pepper)(key) == hmac.new(pepper.encode(), key, hashlib.sha256).digest()


def test_a_hasher_makes_many():
    digest = hasher("p" * 32)
    assert digest(b"a") == digest(b"a") != digest(b"b")
    assert digest(b"a") != hasher("q" * 32)(b"a")


def test_what_is_stored():
    assert stored(b"\x01" * 32) == "hmac-sha256:" + "01" * 32
    assert hint("gw_live_abcdef") == "cdef"


def test_keys_from_elsewhere():
    assert fit_elsewhere(b"0123456789abcdef")
    assert fit_elsewhere(b"x" * 256)
    for text in (
        b"0123456789abcde",
        b"x" * 257,
        b"0123456789 abcdef",
        b"0123456789abcd\xc3\xa4",
        b"",
        KEY,
        b"gw_" + b"x" * 20,
    ):
        assert not fit_elsewhere(text)
    assert api_keys.is_ours(KEY)


def test_a_mark_is_this_process_own():
    mark = api_keys.marker()
    assert mark(KEY) == mark(KEY) != mark(KEY[:-1])
    assert mark(KEY) != api_keys.marker()(KEY)
    assert len(mark(KEY)) == 16
