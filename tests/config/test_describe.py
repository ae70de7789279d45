"""What an option may be, in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, inspect

from gatewayd.config.describe import describe, in_range
from gatewayd.config.model import Listener, Method
from gatewayd.config.units import Duration, Size


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (str, "a text"),
        (int, "a whole number"),
        (Annotated[int, Meta(ge=1, le=9)], "a whole number, at least 1, at most 9"),
        (Annotated[float, Meta(gt=0, lt=1)], "a number, more than 0, less than 1"),
        (Literal["b", "a"], '"a", "b"'),
        (Literal[1, 2], "1, 2"),
        (int | Literal["auto"], 'a whole number or "auto"'),
        (Listener | None, "a table"),
        (dict[str, int], "a table"),
        (list[int], "a list"),
        (Annotated[list[int], Meta(min_length=1)], "a list of at least one"),
        (Annotated[Duration, Meta(extra={"gt": 0})], f"{Duration.ALLOWED}, more than 0"),
        (Size, Size.ALLOWED),
        (Method, "a method, in capitals as it is sent, such as GET"),
        (Any, "a text, number, boolean, list or table"),
    ],
)
def test_words(kind, words):
    assert describe(inspect.type_info(kind)) == words


@pytest.mark.parametrize(
    ("bounds", "value", "kept"),
    [
        ({}, 1, True),
        ({"ge": 1}, 1, True),
        ({"ge": 1}, 0, False),
        ({"gt": 1}, 1, False),
        ({"le": 1}, 1, True),
        ({"le": 1}, 2, False),
        ({"lt": 1}, 1, False),
        (inspect.IntType(ge=1, le=2), 3, False),
        (inspect.IntType(ge=1, le=2), 2, True),
    ],
)
def test_ranges(bounds, value, kept):
    assert in_range(bounds, value) is kept
