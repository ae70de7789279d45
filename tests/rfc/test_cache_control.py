"""Cache-Control: what is read, and what is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.cache_control import INVALID, LONGEST, read_directives


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"max-age=60", 60),
        (b"MAX-Age=60", 60),
        (b'max-age="60"', 60),
        (b"max-age=0060", 60),
        (b"max-age=99999999999999999999", LONGEST),
        (b"max-age=60, max-age=60", 60),
        (b",, max-age=60 ,,", 60),
        (b"x, max-age=60,y=z", 60),
        (b'x="max-age=1", max-age=60', 60),
        (b'max-age=60, x="a, max-age=1"', 60),
        (b"max-age", INVALID),
        (b"max-age=", None),
        (b"max-age=''", INVALID),
        (b"max-age='60'", INVALID),
        (b"max-age=-60", INVALID),
        (b"max-age=6.0", INVALID),
        (b"max-age=6s", INVALID),
        (b"max-age=1, max-age=2", INVALID),
        (b"max-age =60", None),
        (b"max-age= 60", None),
        (b's-maxage=60, x="max-age=60', None),
        (b"no-cache", None),
        (b"", None),
    ],
)
def test_seconds(value, seconds):
    assert read_directives([value]).seconds(b"max-age") == seconds


@pytest.mark.parametrize(
    ("value", "malformed"),
    [
        (b'a, b=c, d="e"', False),
        (b"a,,b", False),
        (b"a b, c", True),
        (b'a="b, c', True),
        (b"=, c", True),
        (b"a=, c", True),
        (b"\xe4, c", True),
        (b"a=60;x", True),
    ],
)
def test_what_cannot_be_read_is_known_and_the_rest_is_read(value, malformed):
    found = read_directives([value, b"last"])
    assert found.malformed is malformed
    assert b"last" in found


def test_lines_stand_for_themselves():
    found = read_directives([b'x="unclosed', b"no-store"])
    assert b"no-store" in found
    assert found.malformed


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ([b"x"], None),
        ([b"private"], set()),
        ([b'private="A, b"'], {b"a", b"b"}),
        ([b'private="a"', b'private="b"'], {b"a", b"b"}),
        ([b'private="a", private'], set()),
        ([b"private=a"], set()),
        ([b'private="\\a"'], {b"a"}),
        ([b'private=""'], set()),
    ],
)
def test_lists_of_fields(values, fields):
    assert read_directives(values).fields(b"private") == fields


def test_parameters_name_whom_a_directive_is_for():
    values = [b"max-age=1;other, max-age=2 ; x ;me, no-store;Other, content"]
    found = read_directives(values, b"me")
    assert found.seconds(b"max-age") == 2
    assert set(found) == {b"max-age", b"content"}
    assert not found.malformed


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_anything_is_survived(values):
    found = read_directives(values, b"me")
    for name in found:
        assert name == name.lower()
        assert found.seconds(name) is not None
        assert found.fields(name) is not None


TOKEN = st.from_regex(rb"[a-z][a-z-]{0,9}", fullmatch=True)
ARGUMENT = st.one_of(st.none(), TOKEN, st.binary(max_size=9).map(lambda each: each.translate(None, b'"\\')))


@given(st.lists(st.tuples(TOKEN, ARGUMENT), max_size=5), st.sampled_from([b",", b" , ", b",,\t"]))
def test_what_is_written_rightly_is_read_as_it_was_meant(pairs, comma):
    def written(name, argument):
        return name if argument is None else b'%b="%b"' % (name, argument)

    found = read_directives([comma.join(written(*pair) for pair in pairs)])
    assert not found.malformed
    read = [(name, None if each is None else bytes(each)) for name, those in found.items() for each in those]
    assert sorted(map(repr, read)) == sorted(map(repr, pairs))
