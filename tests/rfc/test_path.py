"""Paths: one spelling, its rules, and what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import RequestError
from gatewayd.rfc.path import PathRules, is_clean_query, is_plain, normalise, split_target

DEFAULT = PathRules()
LENIENT = PathRules(encoded_slash="keep", semicolon="keep")
STRICT = PathRules(empty_segments="refuse")
RULES = st.builds(
    PathRules,
    encoded_slash=st.sampled_from(["refuse", "keep"]),
    semicolon=st.sampled_from(["refuse", "keep"]),
    empty_segments=st.sampled_from(["merge", "refuse"]),
)
PIECES = st.sampled_from(
    b"""/ // . .. a B-_~9 %2e %2E %41 %7e %2f %2F %3b ; ;x=1 %c3%a9 %E2%82%AC | " [1] :@ !$&'()*+,= %20 %25 %252e /../
    /./ /.x /..x""".split()
)
PATHS = st.lists(PIECES, max_size=12).map(lambda pieces: b"/" + b"".join(pieces))


def refused(path: bytes, rules: PathRules = DEFAULT) -> str:
    """The code of the refusal of `path`."""
    with pytest.raises(RequestError) as raised:
        normalise(path, rules)
    assert raised.value.status == 400
    return raised.value.code


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/", b"/"),
        (b"/v1/policies/42", b"/v1/policies/42"),
        (b"/a/", b"/a/"),
        (b"/%41%2d%5F%7e", b"/A-_~"),
        (b"/%c3%a9", b"/%C3%A9"),
        (b"/a%20b", b"/a%20b"),
        (b"/%2a%3f%23", b"/%2A%3F%23"),
        (b'/a|b[1]{}^`"<>', b"/a%7Cb%5B1%5D%7B%7D%5E%60%22%3C%3E"),
        (b"/a:b@c!$&'()*+,=", b"/a:b@c!$&'()*+,="),
        (b"/a/./b", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/a/%2e%2E/b", b"/b"),
        (b"/a/.%2e/b", b"/b"),
        (b"/a/.", b"/a/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/..", b"/"),
        (b"/a/../", b"/"),
        (b"/.", b"/"),
        (b"/a//b", b"/a/b"),
        (b"//a", b"/a"),
        (b"/a//", b"/a/"),
        (b"/a//../b", b"/b"),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/a/...", b"/a/..."),
        (b"/a/..b/.c", b"/a/..b/.c"),
        (b"/%252e%252e/a", b"/%252e%252e/a"),
    ],
)
def test_one_spelling(path, normal):
    assert normalise(path, DEFAULT) == normal


def test_rfc_3986_example():
    assert normalise(b"/a/b/c/./../../g", DEFAULT) == b"/a/g"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"/..", "path_outside_root"),
        (b"/a/../..", "path_outside_root"),
        (b"/%2e%2e/a", "path_outside_root"),
        (b"//..", "path_outside_root"),
        (b"/a%2fb", "path_encoded_slash"),
        (b"/a;b", "path_semicolon"),
        (b"/a%3Bb", "path_semicolon"),
        (b"/a%3bb", "path_semicolon"),
        (b"/%00", "path_control_character"),
        (b"/%0d%0a", "path_control_character"),
        (b"/%7f", "path_control_character"),
        (b"/%C2%85", "path_control_character"),
        (b"/a\\b", "path_backslash"),
        (b"/a%5cb", "path_backslash"),
        (b"/a#b", "target_fragment"),
        (b"/a b", "target_bad_character"),
        (b"/a\x00", "target_bad_character"),
        (b"/a\x7f", "target_bad_character"),
        (b"/\xc3\xa9", "target_bad_character"),
        (b"/a?b", "target_bad_character"),
        (b"/%", "path_bad_escape"),
        (b"/%4", "path_bad_escape"),
        (b"/%zz", "path_bad_escape"),
        (b"/%4g", "path_bad_escape"),
        (b"/%C3", "path_bad_utf8"),
        (b"/%80", "path_bad_utf8"),
        (b"/%C3/%A9", "path_bad_utf8"),
        (b"/%C0%AF", "path_bad_utf8"),
        (b"/%E0%80%AF", "path_bad_utf8"),
        (b"/%ED%A0%80", "path_bad_utf8"),
        (b"/%F4%90%80%80", "path_bad_utf8"),
        (b"", "target_malformed"),
        (b"a/b", "target_malformed"),
    ],
)
def test_refused(path, code):
    assert refused(path) == code


def test_rules_keep_what_they_say():
    assert normalise(b"/a%2fb;v=1/%3bc", LENIENT) == b"/a%2Fb;v=1/%3Bc"
    assert normalise(b"/a//b", LENIENT) == b"/a/b"
    assert refused(b"/a//b", STRICT) == "path_empty_segment"
    assert refused(b"/a//", STRICT) == "path_empty_segment"
    assert normalise(b"/a/", STRICT) == b"/a/"


@pytest.mark.parametrize(
    "path",
    [
        b"/a/..;x=1/b",
        b"/a/..%3Bx/b",
        b"/.;/a",
        b"/a/..%2Fb",
        b"/a%2F../b",
        b"/a%2f%2e%2e%2fb",
        b"/a%2F.",
        b"/a%2F%2e%2e;x",
    ],
)
def test_dots_that_only_some_servers_see_are_refused(path):
    assert refused(path, LENIENT) == "path_hidden_dots"


def test_dots_within_a_segment_are_nobodys_dot_segments():
    assert normalise(b"/a..;x/..b%2Fc../...%2Fd", LENIENT) == b"/a..;x/..b%2Fc../...%2Fd"


@given(PATHS, RULES)
def test_a_normal_form_is_a_fixed_point(path, rules):
    try:
        normal = normalise(path, rules)
    except RequestError:
        return
    assert normalise(normal, rules) == normal
    assert re.fullmatch(rb"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*)+", normal)
    assert b"//" not in normal
    assert not {b".", b".."} & set(normal.split(b"/"))


@given(PATHS | st.binary(max_size=20).map(lambda text: b"/" + text))
def test_plain_paths_need_no_change_whatever_the_rules(path):
    if is_plain(path):
        for rules in (DEFAULT, LENIENT, STRICT):
            assert normalise(path, rules) == path
            assert _by_the_long_way(path, rules) == path


def _by_the_long_way(path: bytes, rules: PathRules) -> bytes:
    """The normal form of `path` without the shortcut for plain ones: its first letter or digit arrives escaped."""
    at = next((at for at, octet in enumerate(path) if bytes((octet,)).isalnum()), None)
    return path if at is None else normalise(b"%b%%%02x%b" % (path[:at], path[at], path[at + 1 :]), rules)


@given(st.binary(max_size=30))
def test_any_octets_are_normal_or_refused(octets):
    try:
        normal = normalise(b"/" + octets, DEFAULT)
    except RequestError:
        return
    assert normal.isascii()
    assert normal.startswith(b"/")


def test_split():
    assert split_target(b"/a?b=c?d") == (b"/a", b"b=c?d")
    assert split_target(b"/a?") == (b"/a", b"")
    assert split_target(b"/a") == (b"/a", None)
    assert split_target(b'/a?"<>[]^`{|}%zz%0a') == (b"/a", b'"<>[]^`{|}%zz%0a')


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"/a#b", "target_fragment"),
        (b"/a?b#c", "target_fragment"),
        (b"/a?\\", "query_backslash"),
        (b"/a?b=%00", "query_nul"),
        (b"/a?b c", "target_bad_character"),
        (b"/a?b\x01", "target_bad_character"),
        (b"/a?\xff", "target_bad_character"),
        (b"/a?\x7f", "target_bad_character"),
    ],
)
def test_split_refuses(target, code):
    with pytest.raises(RequestError) as raised:
        split_target(target)
    assert (raised.value.status, raised.value.code) == (400, code)


def test_split_limits_the_length():
    assert split_target(b"/abc", limit=4) == (b"/abc", None)
    with pytest.raises(RequestError) as raised:
        split_target(b"/abcd", limit=4)
    assert (raised.value.status, raised.value.code) == (414, "target_too_long")


@given(PATHS, st.binary(max_size=12))
def test_the_shortcut_for_targets_agrees_with_the_long_way(path, query):
    if is_plain(path) and is_clean_query(query):
        assert split_target(path + b"?" + query) == (path, query)
        assert normalise(path, DEFAULT) == path
