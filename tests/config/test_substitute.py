"""Marks in texts: what each is replaced by, and what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.faults import Faults
from gatewayd.config.sources import Sources
from gatewayd.config.substitute import SubstitutionError, substitute, substitute_all

ENVIRON = {"NAME": "value", "EMPTY": "", "NESTED": "${env:NAME}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$ {} {id} $x", "$ {} {id} $x"),
        ("a ${env:NAME} b ${env:NAME}", "a value b value"),
        ("${env:EMPTY}", ""),
        ("${env:EMPTY:-other}", "other"),
        ("${env:MISSING:-}", ""),
        ("${env:MISSING:-a:-b}", "a:-b"),
        ("${env:NAME:-other}", "value"),
        ("${env:NESTED}", "${env:NAME}"),
        ("$${env:NAME}", "${env:NAME}"),
        ("$$${env:NAME}", "$${env:NAME}"),
        ("${file:secret}", "hunter2"),
        ("${file:two}", "a\nb"),
    ],
)
def test_what_is_put_in(tmp_path, text, expected):
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "two").write_bytes(b"a\nb\r\n")
    assert substitute(text, tmp_path, ENVIRON) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${env:MISSING}", "the environment has no MISSING"),
        ("${env:NAME", "without its }"),
        ("${NAME}", "unknown"),
        ("${env:}", "unknown"),
        ("${vault:x}", "unknown"),
        ("${file:}", "unknown"),
        ("${file:missing}", "No such file"),
        ("${file:.}", "Is a directory"),
        ("${file:binary}", "not UTF-8"),
        ("${file:large}", "larger than 1 MiB"),
    ],
)
def test_what_cannot_be(tmp_path, text, message):
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    with pytest.raises(SubstitutionError, match=message):
        substitute(text, tmp_path, ENVIRON)


@given(st.text(alphabet="${}envfile:- x", max_size=30))
def test_any_text_is_replaced_or_refused(tmp_path_factory, text):
    try:
        substitute(text, tmp_path_factory.getbasetemp(), ENVIRON)
    except SubstitutionError:
        assert "${" in text


@given(st.text())
def test_a_doubled_dollar_brings_any_text_through(tmp_path_factory, text):
    escaped = text.replace("${", "$${")
    assert substitute(escaped, tmp_path_factory.getbasetemp(), {}) == text


def test_texts_are_found_however_deep_and_noted():
    sources = Sources("conf.toml")
    faults = Faults(sources)
    raw = {"a": {"b": ["${env:NAME}", {"c": "$${x}"}], "d": 1}, "e": "${env:MISSING}"}
    substitute_all(raw, sources, ENVIRON, faults)
    assert raw == {"a": {"b": ["value", {"c": "${x}"}], "d": 1}, "e": "${env:MISSING}"}
    assert sources.written(("a", "b", 0)) == "${env:NAME}"
    assert sources.written(("a", "b", 1, "c")) == "$${x}"
    assert [fault.path for fault in faults.found] == ["e"]
