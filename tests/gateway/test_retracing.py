"""Retracing agrees with the router: whatever it decides of a call on record, the router would of the call itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from gatewayd.audit.masking import pseudonyms
from gatewayd.audit.record import Call, Captured, Operation, Personal
from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from gatewayd.errors import ConfigError
from gatewayd.gateway.build import Ground, build
from gatewayd.gateway.retracing import Retracing
from gatewayd.gateway.router import Miss
from gatewayd.gateway.unrecorded import NotOnRecord
from tests.support.exchanges import make_exchange
from tests.support.records import recorded_call

HASHED = pseudonyms(b"k" * 32)


def document(*routes: dict[str, Any], **named: dict[str, Any]) -> dict[str, Any]:
    made = {f"r{number}": {**route, "reply": {"body": "x"}} for number, route in enumerate(routes)}
    made |= {name: {**route, "reply": {"body": "x"}} for name, route in named.items()}
    return {"listeners": {"http": {"address": "127.0.0.1:0"}}, "routes": made}


def call(template: str, *values: bytes | None, method: bytes = b"GET", route: str = "r0", **more: Any) -> Call:
    """A call on record, with hashes of `values`; None: they were erased."""
    captured = more.pop("captured", None)
    host = more.pop("host", b"a.example")
    hashes = [] if None in values else [HASHED(value) for value in values if value is not None]
    personal = None if None in values else Personal("192.0.2.1", values=hashes, captured=captured)
    return recorded_call(Operation(route, "", template, []), method=method, host=host, personal=personal)


def way(found: dict[str, Any], recorded: Call, serving: dict[str, Any] | None = None) -> str:
    """The route's name or the refusal's code, "?" where it is not decided."""
    served = None if serving is None else decode(serving)
    try:
        taken = Retracing(decode(found), served, HASHED, False).way(recorded)
    except NotOnRecord:
        return "?"
    return taken if isinstance(taken, str) else taken.route


SEGMENTS = st.sampled_from(["a", "b", "7", "x-y", "{p}", "{p:int}", "{p:slug}", "{p}.pdf", "v{p:int}", "{p:/[ab]+/}"])
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PROPFIND"])
VALUES = st.sampled_from([b"a", b"b", b"7", b"42", b"x-y", b"a.pdf", b"v7", b"ab", b""])


@st.composite
def paths(draw: st.DrawFn) -> str:
    segments = draw(st.lists(SEGMENTS, min_size=1, max_size=3))
    named = [each.replace("{p", f"{{p{at}") for at, each in enumerate(segments)]
    tail = draw(st.sampled_from(["", "", "/*", "/{rest*}", "/"]))
    return "/" + "/".join(named) + tail


ROUTE = st.fixed_dictionaries(
    {"path": paths()},
    optional={
        "methods": st.lists(st.sampled_from(["GET", "POST", "HEAD"]), unique=True, max_size=2),
        "hosts": st.sampled_from([["a.example"], ["*.example"], ["b.example"]]),
    },
)
ROUTES = st.lists(ROUTE, min_size=1, max_size=5)
FILLED = {"{p:int}": "42", "{p}.pdf": "a.pdf", "v{p:int}": "v7", "{p:/[ab]+/}": "ab"}


def built(found: dict[str, Any]) -> Any:
    return build(decode(found), Ground(clock=FakeClock()))


def sound(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that can stand side by side."""
    kept: list[dict[str, Any]] = []
    for route in routes:
        try:
            built(document(*kept, route))
        except ConfigError:
            continue
        kept.append(route)
    return kept


def fitting(path: str, values: list[bytes]) -> bytes:
    """A path that the template may match."""
    left = iter(values)
    segments = []
    for segment in path.split("/")[1:]:
        shape = re.sub(r"\{p\d", "{p", segment)
        if shape in ("*", "{rest*}"):
            segments += [each.decode() for each in left]
        elif shape in ("{p}", "{p:slug}"):
            segments.append(next(left).decode() or "a")
        else:
            segments.append(FILLED.get(shape, shape))
    return f"/{'/'.join(segments)}".encode()


@settings(max_examples=200, deadline=None)
@given(ROUTES, ROUTES, st.lists(VALUES, min_size=4, max_size=4), METHODS, st.booleans(), st.booleans(), st.data())
def test_what_is_decided_is_what_the_router_decides(before, after, values, method, erased, told, data):
    serving = sound(before)
    candidate = sound([*after, *serving[: data.draw(st.sampled_from([0, 1, 5]))]])
    assume(serving)
    assume(candidate)
    path = fitting(data.draw(st.sampled_from(serving))["path"], values)
    asked = make_exchange(method=method, host=b"a.example", path=path)
    route = built(document(*serving)).routers["http"].match(asked)
    assume(not isinstance(route, Miss))
    shown: list[bytes | None] = [None] if erased else list((asked.params or {}).values())
    record = call(route.path, *shown, method=method, route=route.name)
    found = way(document(*candidate), record, document(*serving) if told else None)
    asked.params = None
    truly = built(document(*candidate)).routers["http"].match(asked)
    event(f"decided: {found != '?'}, told: {told}, erased: {erased}")
    if isinstance(truly, Miss):
        assert found in ("?", {404: "route_not_found", 405: "method_not_allowed"}[truly.status])
    else:
        assert found in ("?", truly.name)


@settings(max_examples=100, deadline=None)
@given(ROUTES, st.lists(VALUES, min_size=4, max_size=4), st.booleans(), st.data())
def test_the_same_configuration_decides_everything_if_it_is_told_so(routes, values, erased, data):
    routes = sound(routes)
    assume(routes)
    serving = document(*routes)
    path = fitting(data.draw(st.sampled_from(routes))["path"], values)
    asked = make_exchange(host=b"a.example", path=path)
    route = built(serving).routers["http"].match(asked)
    assume(not isinstance(route, Miss))
    shown: list[bytes | None] = [None] if erased else list((asked.params or {}).values())
    assert way(serving, call(route.path, *shown, route=route.name), serving) == route.name


@pytest.mark.parametrize(
    ("template", "values", "routes", "expected"),
    [
        ("/a/{id}", [b"x"], ["/a/{name}"], "r0"),
        ("/a/{id}", [b"x"], ["/a/{name}", "/a/x"], "r1"),
        ("/a/{id}", [b"y"], ["/a/{name}", "/a/x"], "r0"),
        ("/a/{id}", [None], ["/a/{name}", "/a/x"], "?"),
        ("/a/{id}", [None], ["/a/{name}"], "r0"),
        ("/a/{id}", [b"7"], ["/a/{name}", "/a/{n:int}"], "?"),
        ("/a/{id:int}", [b"7"], ["/a/{name}", "/a/{n:int}"], "r1"),
        ("/a/{id:int}", [b"7"], ["/a/{name}", "/a/{n:uuid}"], "r0"),
        ("/a/{id:int}", [b"7"], ["/a/{n:slug}"], "r0"),
        ("/a/{id:/[0-9]{3}/}", [b"123"], ["/a/{n:/[0-9]{3}/}"], "r0"),
        ("/a/{id:/[0-9]{3}/}", [b"123"], ["/a/{n:/[0-9]{4}/}"], "?"),
        ("/a/{id:/[0-9]{3}/}", [b"123"], ["/a/123"], "r0"),
        ("/a/{id}.pdf", [b"x"], ["/a/x.pdf"], "r0"),
        ("/a/{id}.pdf", [b"x"], ["/a/y.pdf", "/a/{name}"], "r1"),
        ("/a/{rest*}", [b"b/c"], ["/a/*"], "r0"),
        ("/a/{rest*}", [b"b/c"], ["/*"], "r0"),
        ("/a/{rest*}", [b"b/c"], ["/a/*", "/a/b/c"], "r1"),
        ("/a/{rest*}", [b"b/d"], ["/a/*", "/a/b/c"], "r0"),
        ("/a/{rest*}", [b"b/d"], ["/a/*", "/a/b/{x}"], "?"),
        ("/a/{rest*}", [b""], ["/a"], "?"),
        ("/a/{rest*}", [b"x"], ["/a"], "route_not_found"),
        ("/*", [], ["/*", "/a"], "?"),
        ("/*", [], ["/*"], "r0"),
        ("/a", [], ["/b"], "route_not_found"),
        ("/a/{id}", [b"x"], ["/b/{id}"], "route_not_found"),
    ],
)
def test_what_hashes_tell(template, values, routes, expected):
    assert way(document(*({"path": path} for path in routes)), call(template, *values)) == expected


def test_conditions_are_met_only_by_what_was_captured():
    found = document(
        {"path": "/a", "headers": {"x-version": "2"}}, {"path": "/a", "query": {"beta": "*"}}, {"path": "/a"}
    )
    second = Captured([(b"x-version", b"2")])
    first = Captured([(b"x-version", b"1")], query=b"a=1")
    beta = Captured([(b"x-version", b"1")], query=b"b%65ta=")
    hidden = Captured([(b"x-version", b"[redacted]")], query=b"a=1")
    assert way(found, call("/a")) == "?"
    assert way(found, call("/a", captured=second)) == "r0"
    assert way(found, call("/a", captured=first)) == "r2"
    assert way(found, call("/a", captured=beta)) == "r1"
    assert way(found, call("/a", captured=hidden)) == "?"
    assert way(found, call("/a", route="r2"), found) == "r2"
    assert way(found, call("/a", route="r0"), found) == "r0"


def test_hosts_and_listeners():
    found = document({"path": "/a", "hosts": ["*.example"]}, {"path": "/a", "hosts": ["a.example"]}, {"path": "/a"})
    hosts = {b"a.example:8080": "r1", b"b.example": "r0", b"other": "r2"}
    assert {host: way(found, call("/a", host=host)) for host in hosts} == hosts
    found["routes"]["r2"]["listeners"] = ["http"]
    found["listeners"]["inside"] = {"address": "127.0.0.1:0"}
    assert way(found, call("/a", host=b"other")) == "r2"
    del found["listeners"]["http"]
    found["routes"]["r2"]["listeners"] = ["inside"]
    assert way(found, call("/a", host=b"other")) == "no_listener"


def test_methods():
    found = document({"path": "/a", "methods": ["GET"]}, {"path": "/a/{id:int}", "methods": ["POST"]})
    assert way(found, call("/a", method=b"HEAD")) == "r0"
    assert way(found, call("/a", method=b"POST")) == "method_not_allowed"
    assert way(found, call("/a/{x}", b"7")) == "?"
    assert way(found, call("/a/{x:int}", b"7")) == "method_not_allowed"


def test_preflights_are_routed_by_what_is_not_on_record():
    retracing = Retracing(decode(document({"path": "/a"})), None, HASHED, True)
    with pytest.raises(NotOnRecord, match="preflight"):
        retracing.way(call("/a", method=b"OPTIONS"))
