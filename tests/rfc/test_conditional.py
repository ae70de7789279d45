"""If-None-Match."""

from __future__ import annotations

import pytest

from gatewayd.rfc.conditional import Validators, none_match, not_modified, opaque_tag, range_holds, validators


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


NOW = 1_800_000_000.0
MODIFIED = b"Sun, 06 Nov 1994 08:49:37 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"
EARLIER = b"Sun, 06 Nov 1994 08:49:36 GMT"
HELD = Validators(b'"e"', 784_111_777.0, MODIFIED, NOW)


@pytest.mark.parametrize(
    ("etag", "opaque"),
    [(b'"a"', b'"a"'), (b'W/"a"', b'"a"'), (b'w/"a"', b""), (b"a", b"a"), (b"*", b""), (b"a, b", b""), (b"", b"")],
)
def test_the_part_of_a_tag_that_counts(etag, opaque):
    assert opaque_tag(etag) == opaque


def test_validators_of_a_reply():
    headers = [(b"etag", b'"e"'), (b"last-modified", MODIFIED), (b"date", LATER)]
    assert validators(headers, NOW) == Validators(b'"e"', 784_111_777.0, MODIFIED, 784_111_778.0)
    assert validators([*headers, *headers], NOW) == Validators(date=NOW)
    assert validators([(b"etag", b'"'), (b"last-modified", b"x"), (b"date", b"x")], NOW) == Validators(date=NOW)


@pytest.mark.parametrize(
    ("headers", "modified"),
    [
        ([], True),
        ([(b"if-none-match", b'"e"')], False),
        ([(b"if-none-match", b'W/"e"')], False),
        ([(b"if-none-match", b"*")], False),
        ([(b"if-none-match", b'"f"')], True),
        ([(b"if-none-match", b'"f"'), (b"if-modified-since", LATER)], True),
        ([(b"if-none-match", b'"e"'), (b"if-modified-since", EARLIER)], False),
        ([(b"if-modified-since", MODIFIED)], False),
        ([(b"if-modified-since", LATER)], False),
        ([(b"if-modified-since", EARLIER)], True),
        ([(b"if-modified-since", b"x")], True),
        ([(b"if-modified-since", LATER), (b"if-modified-since", LATER)], True),
    ],
)
def test_not_modified(headers, modified):
    assert not_modified(headers, HELD, NOW) is not modified


def test_without_a_tag_none_matches_and_without_a_date_the_replys_own_counts():
    assert not not_modified([(b"if-none-match", b'""')], Validators(date=NOW), NOW)
    assert not_modified([(b"if-modified-since", LATER)], Validators(date=784_111_778.0), NOW)
    assert not not_modified([(b"if-modified-since", MODIFIED)], Validators(date=784_111_778.0), NOW)


@pytest.mark.parametrize(
    ("value", "holds"),
    [(b'"e"', True), (b'W/"e"', False), (b'"f"', False), (MODIFIED, True), (LATER, False), (b"x", False)],
)
def test_if_range_compares_strongly(value, holds):
    assert range_holds([(b"if-range", value)], HELD) is holds
    assert range_holds([], HELD)
    assert not range_holds([(b"if-range", value)] * 2, HELD)


def test_a_date_is_strong_only_a_second_later():
    assert not range_holds([(b"if-range", MODIFIED)], HELD._replace(date=784_111_777.5))
    assert not range_holds([(b"if-range", b'W/"e"')], HELD._replace(etag=b'W/"e"'))
