"""Dotted keys are written as TOML would and read back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.keys import join, split


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ((), ""),
        (("limits", "head"), "limits.head"),
        (("upstreams", "a", "targets", 0, "address"), "upstreams.a.targets[0].address"),
        (("routes", "a.b", "path"), 'routes."a.b".path'),
        (("routes", 'a"[0]', "path"), 'routes."a\\"[0]".path'),
    ],
)
def test_they_are_written_as_in_toml(key, text):
    assert join(key) == text
    assert split(text) == key


@given(st.lists(st.text(min_size=1) | st.integers(0, 99), max_size=6))
def test_any_key_reads_back_the_same(parts):
    key = ("section", *parts)
    assert split(join(key)) == key


def test_a_name_without_a_value_is_kept():
    assert split(join(("policies", ""))) == ("policies", "")
