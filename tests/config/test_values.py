"""What single values may be: the patterns of names, headers, hosts and prefixes."""

from __future__ import annotations

import msgspec
import pytest

from gatewayd.config import values
from gatewayd.config.convert import convert_table


def fits(kind, value):
    return not convert_table(msgspec.defstruct("Table", [("it", kind)]), {"it": value}, "table")[1]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (values.Name, ["a", "A.b_c-9", "x" * 64], ["", "a b", "ä", "x" * 65, "a/b"]),
        (values.FieldName, ["X-Api-Key", "~"], ["", "a b", "a:", "a\n"]),
        (values.FieldValue, ["", "a b", "ä"], ["a\nb", "\x7f"]),
        (values.HostPattern, ["a.example", "*.a.example", "[::1]"], ["", "*", "a.example:80", "a..b"]),
        (values.SentHost, ["preserve", "a.example:80"], ["", "a b", "a\r\nb"]),
        (values.ServerName, ["", "a.example", "::1"], ["a b", "a:80x"]),
        (values.Prefix, ["", "/", "/a/b"], ["a", "/a b", "/a?b"]),
        (values.HashOn, ["ip", "header:X-A", "cookie:a"], ["", "header:", "header:a b"]),
    ],
)
def test_what_is_taken_and_what_is_not(kind, good, bad):
    assert [text for text in good if not fits(kind, text)] == []
    assert [text for text in bad if fits(kind, text)] == []


def test_numbers_have_their_ranges():
    assert [fits(values.Positive, number) for number in (0, 1)] == [False, True]
    assert [fits(values.Count, number) for number in (-1, 0)] == [False, True]
    assert [fits(values.Share, number) for number in (-0.1, 0.0, 1.0, 1.1)] == [False, True, True, False]
    assert [fits(values.Status, number) for number in (99, 100, 599, 600)] == [False, True, True, False]


def test_unknown_keys_are_errors():
    class Table(values.Section, frozen=True):
        name: str = ""

    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"nmae": "a"}, Table)
