"""headers: set, add, remove, on requests and replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.policy import BuildContext, Route
from gatewayd.errors import ConfigError
from gatewayd.policies import headers
from gatewayd.policies.headers import Changes
from gatewayd.rfc.headers import is_field_value
from tests.support.exchanges import make_exchange


def hooks(request=None, reply=None):
    config = headers.Config(request=Changes(**(request or {})), reply=Changes(**(reply or {})))
    return headers.build(config, BuildContext())


def sent(request, before=(), **attributes):
    exchange = make_exchange(list(before), **attributes)
    assert hooks(request).access(exchange) is None
    return exchange.headers


BEFORE = [(b"x-a", b"1"), (b"accept", b"*/*"), (b"x-a", b"2"), (b"x-b", b"3")]


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({"remove": ["X-A"]}, [BEFORE[1], BEFORE[3]]),
        ({"remove": ["x-none"]}, BEFORE),
        ({"set": {"X-A": "9"}}, [BEFORE[1], BEFORE[3], (b"x-a", b"9")]),
        ({"add": {"X-A": "9"}}, [*BEFORE, (b"x-a", b"9")]),
        ({"remove": ["X-B"], "set": {"X-A": ""}, "add": {"X-C": " c "}}, [BEFORE[1], (b"x-a", b""), (b"x-c", b"c")]),
    ],
)
def test_changes_on_both_sides(changes, after):
    assert sent(changes, BEFORE) == after
    reply = list(BEFORE)
    built = hooks(reply=changes)
    assert built.access is None
    built.reply(make_exchange(), reply)
    assert reply == after


def test_a_side_without_changes_has_no_hook():
    assert hooks({"remove": ["x-a"]}).reply is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{client}", b"192.0.2.1"),
        ("{request_id}/{host}", b"0123456789abcdef/api.example.com"),
        ("{scheme}://{host}{path}", b"https://api.example.com/v1/x"),
        ("r={route}", b"r=claims"),
        ("{param.id}-{param.other}.", b"7-."),
        ('{{"id":"{param.id}"}}', b'{"id":"7"}'),
        ("é", "é".encode()),
    ],
)
def test_values_are_filled_in(value, expected):
    route = Route("claims", lambda exchange: None)
    assert sent({"set": {"X-A": value}}, route=route, params={"id": b"7"}) == [(b"x-a", expected)]


def test_what_is_not_there_is_empty():
    assert sent({"set": {"X-A": "{param.id}{route}"}}) == [(b"x-a", b"")]


@given(st.binary(), st.binary())
def test_nothing_a_caller_sends_breaks_out_of_a_value(path, param):
    found = sent({"set": {"X-A": "<{path}>", "X-B": "<{param.id}>"}}, path=path, params={"id": param})
    assert all(is_field_value(value) for _, value in found)


@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize(
    "name",
    ["Connection", "content-length", "Transfer-Encoding", "Host", "TE", "Upgrade", "Via", "Forwarded", "X-Request-Id",
     "X-Forwarded-For", "Keep-Alive", "Proxy-Authorization", "Trailer", "Expect"],
)  # fmt: skip
def test_the_gateways_own_fields_are_refused(side, name):
    for changes, path in (
        ({"set": {name: "x"}}, f"{side}.set.{name}"),
        ({"add": {name: "x"}}, f"{side}.add.{name}"),
        ({"remove": ["x-a", name]}, f"{side}.remove[1]"),
    ):
        with pytest.raises(ConfigError) as caught:
            hooks(**{side: changes})
        assert [fault.path for fault in caught.value.faults] == [path]


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"set": {"X-A": "{clinet}"}}, "request.set.X-A", "did you mean {client}?"),
        ({"set": {"X-A": "{param.}"}}, "request.set.X-A", "no placeholder {param.}"),
        ({"add": {"X-A": "{"}}, "request.add.X-A", "brace"),
        ({"set": {"X-A": "1"}, "add": {"x-a": "2"}}, "request.add.x-a", "changed twice"),
        ({"add": {"x.a'b": "{"}}, """request.add."x.a'b\"""", "brace"),
        ({"remove": ["X-A", "x-a"]}, "request.remove[1]", "changed twice"),
    ],
)
def test_mistakes_are_named(changes, path, message):
    with pytest.raises(ConfigError) as caught:
        hooks(changes)
    (fault,) = caught.value.faults
    assert fault.path == path
    assert message in str(fault)


def test_values_never_stand_in_faults():
    with pytest.raises(ConfigError) as caught:
        hooks({"set": {"Authorization": "Bearer sesame {oops}"}})
    assert "sesame" not in str(caught.value)


def test_changing_nothing_is_a_mistake():
    with pytest.raises(ConfigError):
        hooks()


def test_explain():
    built = hooks({"remove": ["X-A"], "set": {"X-B": "secret"}}, {"add": {"X-C": "1", "X-D": "2"}})
    assert built.explain == "request: remove X-A, set X-B; reply: add X-C X-D"
