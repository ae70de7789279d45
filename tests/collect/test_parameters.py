from __future__ import annotations

import pytest

from gatewayd.collect import parameters
from gatewayd.collect.parameters import Ago, BadParameters, Wrong, read_all

SOME = (
    parameters.text("name", "A name.", many=True),
    parameters.whole("limit", "How many.", 1, 100, 10),
    parameters.one_of("order", "Which way.", ("newest", "oldest")),
    parameters.flag("exact", "Exactly."),
    parameters.moment("from", "Since."),
    parameters.status("status", "Which."),
)


def read(*pairs):
    return read_all(SOME, pairs)


def faults(*pairs):
    with pytest.raises(BadParameters) as caught:
        read(*pairs)
    return caught.value.faults


def test_what_is_not_given_is_none_or_nothing():
    assert read() == {"name": (), "limit": None, "order": None, "exact": None, "from": None, "status": ()}


def test_what_is_given_is_read():
    found = read(("name", "a"), ("name", ""), ("limit", "7"), ("order", "oldest"), ("exact", "true"), ("from", "15m"))
    assert found["name"] == ("a", "")
    assert (found["limit"], found["order"], found["exact"], found["from"]) == (7, "oldest", True, Ago(900))


def test_everything_wrong_is_told_at_once():
    found = faults(("limit", "0"), ("order", "newer"), ("exact", "yes"), ("nmae", "x"), ("from", "soon"))
    assert [fault.path for fault in found] == ["limit", "order", "exact", "nmae", "from"]
    assert "1 to 100" in found[0].allowed
    assert "newest?" in found[1].message
    assert "did you mean name?" in found[3].hint


@pytest.mark.parametrize(
    "pairs",
    [
        [("limit", "1"), ("limit", "2")],
        [("name", str(number)) for number in range(101)],
        [("name", "x" * 1001)],
        [("name", "a\0b")],
        [("name", "\ud800")],
        [("limit", "1e3")],
        [("limit", "-1")],
        [("limit", "٣")],
        [("limit", "9" * 19)],
        [("from", "2027-01-31 12:00:00")],
        [("from", "2027-02-31")],
        [("from", "1969-12-31")],
        [("from", "2100-01-01")],
        [("from", "")],
    ],
)
def test_what_is_not_taken(pairs):
    assert len(faults(*pairs)) == 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("404", (404, 404)), ("5xx", (500, 599)), ("4XX", (400, 499)), ("400-499", (400, 499)), ("502-504", (502, 504))],
)
def test_statuses(text, wanted):
    assert read(("status", text))["status"] == (wanted,)


@pytest.mark.parametrize("text", ["", "6xx", "0xx", "99", "600", "499-400", "400-", "-400", "4xx-5xx", "200,404"])
def test_what_is_no_status(text):
    assert faults(("status", text))[0].found == repr(text)


def test_times():
    assert read(("from", "2027-01-15T12:00:00.000001Z"))["from"] == 1_800_014_400_000_001
    assert read(("from", "2027-01-15T13:00:00+01:00"))["from"] == 1_800_014_400_000_000
    assert read(("from", "2027-01-15"))["from"] == (1_800_014_400 - 12 * 3600) * 1_000_000
    assert parameters.resolved(Ago(60), 1_000.0) == 940_000_000
    assert parameters.resolved(Ago(10**12), 1_000.0) == 0
    assert parameters.resolved(5, 1_000.0) == 5
    assert parameters.resolved(None, 1_000.0) is None


def test_the_members_of_an_object():
    body = {"status": [404, "5xx"], "exact": True, "name": "a", "limit": 3}
    assert read(*parameters.pairs(body)) == {
        **read(("status", "404"), ("status", "5xx"), ("exact", "true"), ("name", "a"), ("limit", "3"))
    }
    with pytest.raises(BadParameters) as caught:
        parameters.pairs({"name": None, "limit": {}, "order": [[], []], "exact": False})
    assert [fault.path for fault in caught.value.faults] == ["name", "limit", "order"]


def test_a_reader_of_its_own():
    def read_even(value):
        if int(value) % 2:
            raise Wrong("is odd", "even ones")
        return int(value)

    even = parameters.text("even", "An even number.", read=read_even, longest=3)
    assert read_all([even], [("even", "4")]) == {"even": 4}
    with pytest.raises(BadParameters, match=r"even: is odd; found '5'; allowed: even ones"):
        read_all([even], [("even", "5")])
    with pytest.raises(BadParameters, match="too long"):
        read_all([even], [("even", "1000")])


def test_how_they_are_described():
    name, limit, *_ = (parameter.described() for parameter in SOME)
    assert name["schema"] == {"type": "array", "items": {"type": "string", "maxLength": 1000}, "maxItems": 100}
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}
    assert (limit["name"], limit["in"], limit["required"]) == ("limit", "query", False)
