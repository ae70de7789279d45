"""If-None-Match."""

from __future__ import annotations

import pytest

from gatewayd.rfc.conditional import none_match


@pytest.mark.parametrize(
    ("fields", "goes_on"),
    [
        ([], True),
        ([b'"a"'], False),
        ([b'W/"a"'], False),
        ([b'"b", W/"a"'], False),
        ([b'"b"', b'"a"'], False),
        ([b"*"], False),
        ([b" * "], False),
        ([b'"b"'], True),
        ([b'"A"'], True),
        ([b"a"], True),
        ([b'"b,"'], True),
        ([b'"x", "*"'], True),
        ([b""], True),
    ],
)
def test_if_none_match(fields, goes_on):
    assert none_match(fields, b'"a"') is goes_on


def test_a_tag_with_a_comma_is_one_tag():
    assert not none_match([b'"x", "a,b"'], b'"a,b"')
    assert none_match([b'"a,b"'], b'"a"')
