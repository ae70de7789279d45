"""Placeholders in configured texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.placeholders import parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", "")]),
        ("plain", [("plain", "")]),
        ("{path}", [("", "path")]),
        ("a{b}c{d.e}", [("a", "b"), ("c", "d.e")]),
        ("{a}{b}", [("", "a"), ("", "b")]),
        ('{{"n":{id}}}', [('{"n":', "id"), ("}", "")]),
        ("{{{{", [("{{", "")]),
    ],
)
def test_parts(text, expected):
    assert parts(text) == expected


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a b}", "a{{b}", "{A}", "{1}", "{a"])
def test_stray_braces_are_refused(text):
    with pytest.raises(ValueError, match="brace"):
        parts(text)


@given(st.text(), st.sampled_from(["path", "param.id"]), st.text())
def test_literals_survive_escaping(before, name, after):
    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    found = parts(f"{escaped(before)}{{{name}}}{escaped(after)}")
    assert found[0] == (before, name)
    assert found[1:] == ([(after, "")] if after else [])
