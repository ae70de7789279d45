"""jose: tokens are read strictly; what could be read in two ways is refused."""

from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.identity import jose
from gatewayd.identity.jose import DEPTH, LIMIT, Header, Refused, decode, encode, header_of, members, take_apart
from tests.support.tokens import claims, forged, segment, token

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def reason(function, *arguments):
    """Why it is refused, "" if it is not."""
    try:
        function(*arguments)
    except Refused as error:
        return error.reason
    return ""


# -- base64url -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_what_is_encoded_is_decoded(data):
    assert encode(data) == base64.urlsafe_b64encode(data).rstrip(b"=")
    assert decode(encode(data)) == data


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_+/=. \n!", max_size=12).map(str.encode))
def test_bytes_have_one_spelling(text):
    try:
        data = decode(text)
    except Refused:
        return
    assert encode(data) == text


@pytest.mark.parametrize(
    "text", [b"A", b"QQ==", b"QQ=", b"Q Q", b"QR", b"QUJ", b"QQ\n", b"+/", b"QUI.", b"\xff\xff\xff\xff"]
)
def test_other_spellings_are_refused(text):
    assert reason(decode, text) == "encoding"


# -- JSON ------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=6), st.sampled_from([None, 2]), st.booleans())
def test_objects_are_read_as_others_read_them(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert members(text.encode()) == value


@given(st.dictionaries(st.text(max_size=8), PLAIN, min_size=1, max_size=6), st.data())
def test_a_member_that_stands_twice_is_found_wherever_it_stands(value, data):
    """A member of any object within `value` is written once more, in another way if it can be."""
    twice = data.draw(st.sampled_from(sorted(value)))
    space = data.draw(st.sampled_from(["", " ", "\n\t"]))
    more = f"{json.dumps(twice, ensure_ascii=data.draw(st.booleans()))}{space}:{space}0"
    text = json.dumps(value)
    inner = text[:-1] + "," + more + "}"
    for wrapped in (inner, f'{{"a":{inner}}}', f'{{"a":[1,{inner}]}}'):
        assert reason(members, wrapped.encode()) == "json"


@pytest.mark.parametrize(
    "text",
    [
        b"", b"1", b"[]", b'"a"', b"null", b"{", b"{}x", b"{} {}", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}',
        b"{'a':1}", b'{"a":1,}', b'{a:1}', b'{"a":01}', b'{"a":"\\ud800"}', b'{"\\udc00":1}', b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}', '{"a":1}'.encode("utf-16"), b'{"a":1}\x00', b'{"a":"\x01"}', b'{"a":1,"\\u0061":2}',
        b'{"a":1,"a":1}', b'{"x":"\\":","a":1,"a" :1}',
    ],
)  # fmt: skip
def test_what_is_no_object_of_rfc_8259(text):
    assert reason(members, text) == "json"


def test_texts_that_look_like_members_are_none():
    value = {"a": '","a":"', "b": {'c":': ['":', "a:b"]}}
    assert members(json.dumps(value).encode()) == value


def nested(levels, kind="list"):
    start, end = ("[", "]") if kind == "list" else ('{"a":', "}")
    return ('{"a":' + start * (levels - 1) + "1" + end * (levels - 1) + "}").encode()


@pytest.mark.parametrize("kind", ["list", "object"])
def test_deep_nesting_is_refused_and_nothing_breaks(kind):
    assert reason(members, nested(DEPTH, kind)) == ""
    for levels in (DEPTH + 1, 500, 1_200, 5_000, 100_000):
        assert reason(members, nested(levels, kind)) == "json"


# -- headers ---------------------------------------------------------------------------------------------------------


def test_a_token_is_taken_apart():
    made = token()
    head, payload, signature = made.split(b".")
    found = take_apart(made)
    assert found.header == Header("RS256", "k1", "at+jwt")
    assert json.loads(found.payload) == claims()
    assert (found.content, encode(found.signature)) == (head + b"." + payload, signature)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"alg": "ES256"}, Header("ES256", None, "")),
        ({"alg": "ES256", "typ": "application/AT+JWT"}, Header("ES256", None, "at+jwt")),
        ({"alg": "ES256", "kid": "../../etc/passwd"}, Header("ES256", "../../etc/passwd", "")),
        ({"alg": "ES256", "jwk": {}, "jku": "http://x", "x5u": 1, "x5c": []}, Header("ES256", None, "")),
    ],
)
def test_what_a_header_says(fields, found):
    assert header_of(fields) == found


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "header"),
        ({"alg": None}, "header"),
        ({"alg": ["RS256"]}, "header"),
        ({"alg": "RS256", "kid": 1}, "header"),
        ({"alg": "RS256", "kid": {}}, "header"),
        ({"alg": "RS256", "typ": None}, "header"),
        ({"alg": "RS256", "crit": ["exp"], "exp": 1}, "extension"),
        ({"alg": "RS256", "crit": []}, "extension"),
        ({"alg": "RS256", "crit": None}, "extension"),
        ({"alg": "RS256", "b64": False, "crit": ["b64"]}, "extension"),
        ({"alg": "RS256", "b64": False}, "extension"),
    ],
)
def test_headers_that_are_refused(fields, why):
    assert reason(header_of, fields) == why
    assert reason(take_apart, forged(fields)) == why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "malformed"),
        (b"..", "json"),
        (b"a", "malformed"),
        (b"a.b", "malformed"),
        (segment(b"[]") + b"..", "json"),
        (segment(b'{"alg":"RS256","alg":"none"}') + b"..", "json"),
        (token() + b".", "encoding"),
        (token() + b".AAAA", "encoding"),
        (token() + b" ", "encoding"),
        (token() + b"=", "encoding"),
        (token() + b"\x00", "encoding"),
        (b" " + token(), "encoding"),
        (token().replace(b".", b"..", 1), "encoding"),
        (b'{"payload":"","signatures":[]}', "malformed"),
        (b"." * LIMIT, "json"),
        (b"a" * (LIMIT + 1), "too_large"),
    ],
)
def test_what_is_no_token(text, why):
    assert reason(take_apart, text) == why


@given(st.binary(max_size=60) | st.text(alphabet="eyJ.-_=A ", max_size=40).map(str.encode))
def test_junk_is_refused_and_nothing_else(text):
    reason(take_apart, text)


def test_headers_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(jose, "_headers", {})
    for number in range(jose.HEADERS * 2):
        take_apart(forged({"alg": "RS256", "kid": str(number)}))
        assert len(jose._headers) <= jose.HEADERS
    before = len(jose._headers)
    take_apart(forged({"alg": "RS256", "kid": "x" * 600}))
    assert reason(take_apart, forged({"alg": 1})) == "header"
    assert len(jose._headers) == before
    for _ in range(2):  # the second time from memory
        assert take_apart(forged({"alg": "RS256", "kid": "again"})).header.kid == "again"
