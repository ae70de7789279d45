"""Redaction: no spelling of a secret that targets would understand gets through."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.audit.redaction import CUT, HIDDEN, NOT_FORM, NOT_JSON, NOT_REDACTABLE, Redaction

SECRET = "s3cr3t!"
PLAIN = re.sub("[^a-z0-9]", "", SECRET)
NAMES = ["password", "access_token", "iban"]
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@pytest.fixture
def redaction():
    return Redaction(NAMES, ["$.holder.name", "$.claims[*].id"], ["X-Partner"], ["key"])


def shown(data: bytes) -> bool:
    """Whether the secret stands in it, escaped in any way."""
    text = data.decode("latin-1")
    for _ in range(8):
        if "s3cr3t" in text:
            return True
        text = re.sub(r"\\+u00([0-9a-f]{2})|%(?:25)*([0-9a-fA-F]{2})", lambda m: chr(int(m[1] or m[2], 16)), text)
    return False


ESCAPED = "".join(f"\\u{ord(each):04x}" for each in SECRET)

JSON_BODIES = [
    '{"password": "s3cr3t!"}',
    '{"PassWord": "s3cr3t!"}',
    '{"pass-word": "s3cr3t!"}',
    '{"pass_word ": "s3cr3t!"}',
    '{"accessToken": "s3cr3t!"}',
    '{"access-token": ["s3cr3t!"]}',
    '{"password": {"value": "s3cr3t!"}}',
    '{"pass\\u0077ord": "s3cr3t!"}',
    '{"\\u0070assword": "' + ESCAPED + '"}',
    '{"password": "x", "password": "s3cr3t!"}',
    '{"password": "s3cr3t!", "password": "x"}',
    '[[[{"a": [{"password": "s3cr3t!"}]}]]]',
    '{"user.password": "s3cr3t!"}',
    '{"user[password]": "s3cr3t!"}',
    '{"holder": {"name": "s3cr3t!"}}',
    '{"claims": [{"id": "s3cr3t!"}, {"id": {"a": "s3cr3t!"}}]}',
    json.dumps({"payload": '{"password": "s3cr3t!"}'}),
    json.dumps({"payload": json.dumps({"deeper": json.dumps([{"password": SECRET}])})}),
    json.dumps(json.dumps({"password": SECRET})),
    json.dumps({"payload": ' [ {"password": "s3cr3t!"'}),
    '{"link": "https://a.example/?x=1&access_token=s3cr3t!"}',
    '{"link": "https://ann:s3cr3t!@a.example/"}',
    '{"text": "password=s3cr3t!&x=1"}',
    '{"text": "see ?pass%77ord=s3cr3t!"}',
    '\ufeff{"password": "s3cr3t!"}',
    '{"password": "s3cr3t!"',
    '{"password": "s3cr3t!"} trailing',
    '{"a": 1}\n{"password": "s3cr3t!"}',
    '{"password": "s3cr3t!", "x": NaN}',
    "{'password': 's3cr3t!'}",
    '{"password": "s3cr3t!",}',
    '/**/{"password": "s3cr3t!"}',
    'callback({"password": "s3cr3t!"})',
    "password=s3cr3t!",
    "[" * 900 + '{"password": "s3cr3t!"}' + "]" * 900,
    "[" * 300 + '{"password": "s3cr3t!"}' + "]" * 300,
]


@pytest.mark.parametrize("text", JSON_BODIES, ids=range(len(JSON_BODIES)))
@pytest.mark.parametrize("kind", [JSON, "text/json", "application/problem+json"])
def test_no_spelling_in_json(redaction, text, kind):
    found = redaction.body(text.encode(), kind, "", False)
    assert not shown(found)
    assert found == NOT_JSON or orjson.loads(found) is not None


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "utf-7", "cp037"])
def test_no_other_charset(redaction, coding):
    data = '{"password": "s3cr3t!"}'.encode(coding)
    for charset in ("", coding):
        assert redaction.body(data, JSON, charset, False) == NOT_JSON or charset == ""
        found = redaction.body(data, JSON, charset, False)
        assert b"s3cr3t" not in found
        assert "s3cr3t" not in found.decode(coding, "replace")


FORMS = [
    "password=s3cr3t!",
    "a=1&password=s3cr3t!&b=2",
    "PASSWORD=s3cr3t!",
    "pass%77ord=s3cr3t!",
    "%70%61%73%73%77%6F%72%64=s3cr3t!",
    "pass%2Dword=s3cr3t!",
    "+password+=s3cr3t!",
    "password=s3cr3t!&password=s3cr3t!",
    "user[password]=s3cr3t!",
    "user%5Bpassword%5D=s3cr3t!",
    "password[]=s3cr3t!",
    "password[0][x]=s3cr3t!",
    "a=1;password=s3cr3t!",
    "password==s3cr3t!",
    "password=a=s3cr3t!",
    "key=s3cr3t!",
    "next=" + quote("https://a.example/?access_token=s3cr3t!", safe=""),
    "next=" + quote(quote("https://a.example/?access_token=s3cr3t!", safe=""), safe=""),
    "next=" + quote("/?n=" + quote("/?access_token=s3cr3t!", safe=""), safe=""),
    "json=" + quote('{"password": "s3cr3t!"}', safe=""),
    "u=" + quote("https://ann:s3cr3t!@a.example/", safe=""),
]


@pytest.mark.parametrize("text", FORMS)
def test_no_spelling_in_forms_and_queries(redaction, text):
    assert not shown(redaction.query(text.encode()))
    assert not shown(redaction.body(text.encode(), FORM, "", False))
    if text[0] not in "[{":
        for name in (b"referer", b"location", b"link", b"x-original-url"):
            ((_, value),) = redaction.headers([(name, b"https://a.example/x?" + text.encode())])
            assert not shown(value)


@pytest.mark.parametrize(
    "text", ['{"password": "s3cr3t!"}', "<password>s3cr3t!</password>", "a=1\r\npassword: s3cr3t!"]
)
def test_what_says_it_is_a_form_and_is_none(redaction, text):
    assert redaction.body(text.encode(), FORM, "", False) == NOT_FORM


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data", "", "application/x-ndjson"])
def test_types_that_cannot_be_redacted(redaction, kind):
    assert redaction.body(b'{"password": "s3cr3t!"}', kind, "", False) == NOT_REDACTABLE


def test_what_is_cut_off(redaction):
    assert redaction.body(b'{"password": "s3cr3t!"', JSON, "", True) == CUT
    assert redaction.body(b'{"a": 1}', JSON, "", True) == CUT  # more may follow
    assert redaction.body(b"a=1&pass", FORM, "", True) == b"a=1"
    assert redaction.body(b"pass%", FORM, "", True) == b""


@pytest.mark.parametrize(
    "name",
    [
        b"authorization", b"Authorization", b"proxy-authorization", b"proxy_authorization", b"cookie", b"set-cookie",
        b"x-api-key", b"x_api_key", b"X_Api_Key", b"x-partner", b"x_partner", b"dpop", b"x-auth-token",
    ],
)  # fmt: skip
def test_headers_that_are_secrets(redaction, name):
    assert redaction.headers([(b"accept", b"*/*"), (name, b"s3cr3t!")]) == [
        (b"accept", b"*/*"),
        (name, HIDDEN.encode()),
    ]


def test_what_is_no_secret_stays(redaction):
    body = {"a": 1, "passwords": 2, "holder": {"first": "Ann"}, "link": "https://a.example/?x=1#top", "b": "x = y"}
    assert orjson.loads(redaction.body(orjson.dumps(body), JSON, "utf-8", False)) == body
    for query in (b"a=1&b=%2F&c", b"", b"a=b+c", b"x=\xff", b"&&=", b"a=%ff"):
        assert redaction.query(query) == query
    headers = [
        (b"referer", b"https://a.example/?x=1&y=%20"),
        (b"etag", b'"a="'),
        (b"x", b"\xff"),
        (b"y", b"[see below]"),
    ]
    assert redaction.headers(headers) == headers


def test_without_rules_bodies_stay_as_they_are():
    redaction = Redaction([], [], parameters=["key"])
    assert redaction.body(b"<x>", "application/xml", "", True) == b"<x>"
    assert redaction.query(b"key=s3cr3t!") == b"key=[redacted]"
    assert redaction.headers([(b"cookie", b"s3cr3t!")]) == [(b"cookie", b"[redacted]")]
    assert Redaction([], []).query(b"key=1") == b"key=1"


def test_paths_alone_make_rules():
    redaction = Redaction([], ["$.a"])
    assert redaction.body(b'{"a":1,"password":2}', JSON, "", False) == b'{"a":"[redacted]","password":2}'
    assert redaction.body(b"a", "text/plain", "", False) == NOT_REDACTABLE


def test_depth_is_bounded(redaction):
    """What is escaped over and over is hidden rather than followed for ever."""
    text = "s3cr3t!"
    for _ in range(60):
        text = "a=" + quote(text, safe="")
        if len(text) > 30_000:
            break
    assert not shown(redaction.query(text.encode()))
    nested = '{"password": "s3cr3t!"}'
    for _ in range(9):
        nested = json.dumps({"a": nested})
    assert not shown(redaction.body(nested.encode(), JSON, "", False))


def odd(name: str) -> st.SearchStrategy[str]:
    """Spellings of a name that fold to it."""
    return st.tuples(*[st.sampled_from((each, each.upper(), f"{each}-", f"_{each}")) for each in name]).map("".join)


@given(odd("password"), st.recursive(st.just(SECRET), lambda below: st.lists(below, max_size=2), max_leaves=3))
def test_any_spelling_of_a_name_hides_all_below_it(name, value):
    redaction = Redaction(NAMES, [])
    found = redaction.body(orjson.dumps({"x": [{name: value}], "y": 1}), JSON, "", False)
    assert orjson.loads(found) == {"x": [{name: HIDDEN}], "y": 1}


@given(st.binary(max_size=60))
def test_anything_can_be_asked(data):
    redaction = Redaction(NAMES, ["$..iban"])
    for kind in (JSON, FORM, "text/plain"):
        redaction.body(data, kind, "", False)
        redaction.body(data, kind, "", True)
    redaction.query(data)
    redaction.headers([(b"referer", data)])
