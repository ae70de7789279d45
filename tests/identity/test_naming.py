"""How texts stand in headers: nothing ends a line, nothing is lost."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.identity.naming import is_reserved, listed, name_faults, text
from gatewayd.rfc.headers import is_field_value

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Acme Insurance", b"Acme Insurance"),
        ("a,b;c=d", b"a,b;c=d"),
        ("Ämter", b"%C3%84mter"),
        ("100 %", b"100 %25"),
        ("a\r\nX-Consumer-Id: root", b"a%0D%0AX-Consumer-Id: root"),
        (" padded ", b"%20padded%20"),
        ("   ", b"%20%20%20"),
        ("\0\t\x7f", b"%00%09%7F"),
        ("", b""),
    ],
)
def test_texts(value, written):
    assert text(value) == written


@given(TEXTS)
def test_every_text_stands_in_a_field_and_is_read_back(value):
    written = text(value)
    assert written.isascii()
    assert is_field_value(written)
    assert unquote(written.decode()) == value


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=5))
def test_every_list_is_read_back(values):
    written = listed(values)
    assert is_field_value(written)
    assert [unquote(each) for each in written.decode().split(",")] == values


@pytest.mark.parametrize("name", ["X-Consumer-Id", "x-credential-id", "X-Gateway-Token"])
def test_names_that_no_caller_can_send(name):
    assert is_reserved(name.lower().encode())
    assert not name_faults("id", name)


def test_other_names():
    assert not is_reserved(b"x-user")
    assert not name_faults("id", "X-User")


@pytest.mark.parametrize(
    "name", ["Host", "Via", "X-Forwarded-User", "X_Consumer_Id", "X-Consumer-A_B", "Connection", "a b"]
)
def test_names_that_say_other_things_or_are_none(name):
    assert [fault.path for fault in name_faults("id", name)] == ["id"]
