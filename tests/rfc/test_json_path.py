"""JSONPath: what paths are, where they lead, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.json_path import Segment, containers, parse, replacing

DOCUMENT = {
    "holder": {"name": "Ann", "iban": "DE1", "pass word": "p", "it's": 1},
    "claims": [{"id": 1, "iban": "DE2"}, {"id": 2, "notes": [{"iban": "DE3"}]}],
    "ä": ["x", "y", "z"],
}


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("$.a", [Segment(("a",), False)]),
        ("$.a.b", [Segment(("a",), False), Segment(("b",), False)]),
        ("$..a", [Segment(("a",), True)]),
        ("$.*", [Segment((None,), False)]),
        ("$..*", [Segment((None,), True)]),
        ("$['a b']", [Segment(("a b",), False)]),
        ('$["a\\u0062"]', [Segment(("ab",), False)]),
        ("$['it\\'s']", [Segment(("it's",), False)]),
        ("$['\"']", [Segment(('"',), False)]),
        ("$['a\\\\']", [Segment(("a\\",), False)]),
        ("$[0]", [Segment((0,), False)]),
        ("$[-1]", [Segment((-1,), False)]),
        ("$[ 'a' , 1 , * ]", [Segment(("a", 1, None), False)]),
        ("$..['a']", [Segment(("a",), True)]),
        ("$._x9ä", [Segment(("_x9ä",), False)]),
    ],
)
def test_what_a_path_is_made_of(path, segments):
    assert list(parse(path)) == segments


@pytest.mark.parametrize(
    "path",
    [
        "", "a", "$", ".a", "$a", "$.", "$..", "$.1", "$[", "$[]", "$[a]", "$['a]", "$['a'", "$[1:2]", "$[?@.a]",
        "$[01]",
        "$[-0]", "$.a b", "$['a',]", "$['\\x']", '$["\\\'"]', "$['\n']", "$.a.", "$..a..b..c", "$ .a", "$['\\\"']",
    ],
)  # fmt: skip
def test_what_is_no_path_or_not_one_of_ours(path):
    with pytest.raises(ValueError):
        parse(path)


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("$.holder.iban", [("holder", "iban")]),
        ("$['holder']['pass word']", [("holder", "pass word")]),
        ("$..iban", [("holder", "iban"), ("claims", 0, "iban"), ("claims", 1, "notes", 0, "iban")]),
        ("$.claims[*].id", [("claims", 0, "id"), ("claims", 1, "id")]),
        ("$.claims[0]", [("claims", 0)]),
        ("$['ä'][-1]", [("ä", 2)]),
        ("$.claims..iban", [("claims", 0, "iban"), ("claims", 1, "notes", 0, "iban")]),
        ("$.claims[1]['id','notes']", [("claims", 1, "id"), ("claims", 1, "notes")]),
        ("$..notes[0]", [("claims", 1, "notes", 0)]),
        ("$.nothing.here", []),
        ("$.claims.iban", []),
        ("$.claims[7]", []),
        ("$.holder[0]", []),
        ("$.holder.name.first", []),
    ],
)
def test_where_a_path_leads(path, changed):
    found, expected = copy.deepcopy(DOCUMENT), copy.deepcopy(DOCUMENT)
    replacing(path, "-")(found)
    for *way, last in changed:
        container: Any = expected
        for key in way:
            container = container[key]
        container[last] = "-"
    assert found == expected


def test_a_document_that_is_no_container_is_left_alone():
    for path in ("$.a", "$..a", "$[0]", "$.*"):
        replacing(path, "-")("text")


DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_nothing_is_left_below_a_name_at_any_depth(document):
    replacing("$..a", "-")(document)
    assert all(each["a"] == "-" for each in containers(document) if isinstance(each, dict) and "a" in each)


@given(st.text(max_size=8))
def test_any_name_can_be_quoted(name):
    import json

    single = json.dumps(name)[1:-1].replace('\\"', '"').replace("'", "\\'")
    assert parse(f"$[{json.dumps(name)}]") == parse(f"$['{single}']") == (Segment((name,), False),)
