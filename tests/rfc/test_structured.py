"""Structured fields: what is read, what is refused, and that what is written is read back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.structured import InnerList, Item, Token, dictionary, write


def item(value, **parameters):
    return Item(value, parameters)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        (b"", {}),
        (b"  ", {}),
        (b"a", {"a": item(True)}),
        (b"a=?0, b=?1", {"a": item(False), "b": item(True)}),
        (b"a;x;y=1,b", {"a": item(True, x=True, y=1), "b": item(True)}),
        (b"a=1 \t,\t b=-2", {"a": item(1), "b": item(-2)}),
        (b"a=999999999999999", {"a": item(999_999_999_999_999)}),
        (b"a=1.5, b=-0.125", {"a": item(Decimal("1.5")), "b": item(Decimal("-0.125"))}),
        (b'a="b\\"c\\\\d"', {"a": item('b"c\\d')}),
        (b'a=""', {"a": item("")}),
        (b"a=*tok/en:x", {"a": item(Token("*tok/en:x"))}),
        (b"a=:aGk=:, b=::", {"a": item(b"hi"), "b": item(b"")}),
        (b"*a.b-c_1=1", {"*a.b-c_1": item(1)}),
        (b"a=()", {"a": InnerList((), {})}),
        (b'a=( "x"   "y";p=1  );q="r"', {"a": InnerList((item("x"), item("y", p=1)), {"q": "r"})}),
    ],
)
def test_dictionaries(text, members):
    found = dictionary(text)
    assert found == members
    assert list(found) == list(members)


def test_tokens_are_no_strings_and_truths_no_numbers():
    assert isinstance(dictionary(b"a=x")["a"].value, Token)
    assert not isinstance(dictionary(b'a="x"')["a"].value, Token)
    assert dictionary(b"a=?1")["a"].value is True


@pytest.mark.parametrize(
    "text",
    [
        b"a,",
        b",a",
        b"a,,b",
        b"a b",
        b"A=1",
        b"1a=1",
        b"a==1",
        b"a=",
        b"a = 1",
        b"a=1, a=2",
        b"a;x=1;x=2",
        b"a=1234567890123456",
        b"a=1.2345",
        b"a=1.",
        b"a=.5",
        b"a=--1",
        b"a=1.5.5",
        b"a=1234567890123.5",
        b'a="',
        b'a="\\x"',
        b'a="\x7f"',
        b'a="\xc3\xa4"',
        b"a='x'",
        b"a=:aGk:",
        b"a=:aGl=:",
        b"a=:aG k=:",
        b"a=:aGk=",
        b"a=?2",
        b"a=?",
        b"a=@1659578233",
        b'a=%"x"',
        b"a=(1",
        b"a=1)",
        b'a=("x""y")',
        b"a=((1))",
        b"a=(1\t2)",
        b"\ta",
        b"a\n",
        b"a;",
        b"a; ",
        b"a; X",
    ],
)
def test_refused(text):
    with pytest.raises(ValueError):
        dictionary(text)


BARE = st.one_of(
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.decimals(-(10**11), 10**11, places=3),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
    st.from_regex(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]{0,10}", fullmatch=True).map(Token),
    st.binary(max_size=20),
    st.booleans(),
)
KEYS = st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,8}", fullmatch=True)
PARAMETERS = st.dictionaries(KEYS, BARE, max_size=3)
ITEMS = st.builds(Item, BARE, PARAMETERS)
MEMBERS = st.one_of(ITEMS, st.builds(InnerList, st.lists(ITEMS, max_size=3).map(tuple), PARAMETERS))


@given(st.dictionaries(KEYS, MEMBERS, max_size=4))
def test_what_is_written_is_read_back(members):
    text = ", ".join(f"{key}={write(member)}" for key, member in members.items())
    found = dictionary(text.encode())
    assert found == members
    assert [write(member) for member in found.values()] == [write(member) for member in members.values()]


@given(st.binary(max_size=60) | st.text('ab=,;:"\\()?.-1 \t', max_size=60).map(str.encode))
def test_nothing_but_value_errors(text):
    try:
        found = dictionary(text)
    except ValueError:
        return
    for member in found.values():
        assert dictionary(b"a=" + write(member).encode())["a"] == member


@pytest.mark.parametrize(
    ("value", "written"),
    [(Decimal("1.500"), "1.5"), (Decimal("2.000"), "2.0"), (-3, "-3"), (False, "?0"), ('a"\\', '"a\\"\\\\"')],
)
def test_the_one_form(value, written):
    assert write(Item(value, {})) == written


def test_what_has_no_form():
    for value in ("ä", "a\nb"):
        with pytest.raises(ValueError):
            write(Item(value, {}))
