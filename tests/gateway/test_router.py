"""The router: specificity, 404 and 405, hosts, conditions; and everything at once against an oracle."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.errors import ConfigError
from gatewayd.gateway import router
from gatewayd.gateway.router import Miss, Router, RouteSpec, compile_routes

from . import oracle
from .oracle import Answer, path_key, path_params, request


def routes(*paths: str, **common: object) -> Router:
    """A router of routes named and valued by their paths."""
    return compile_routes([RouteSpec(path, path, value=path, **common) for path in paths])


def matched(table: Router, path: bytes, method: bytes = b"GET", host: bytes = b"a.example") -> object:
    """The value that answers, or the status of a miss."""
    found = table.match(request(method, path, host))
    return found.status if isinstance(found, Miss) else found


def faults(*specs: RouteSpec) -> list[str]:
    """What is wrong with the routes, as text."""
    with pytest.raises(ConfigError) as raised:
        compile_routes(specs)
    return [str(fault) for fault in raised.value.faults]


def test_static_paths_and_parameters():
    table = routes("/", "/a", "/a/", "/a/{id}", "/a/{id}/b", "/a/{id}/{more}")
    assert [matched(table, path) for path in (b"/", b"/a", b"/a/", b"/b")] == ["/", "/a", "/a/", 404]
    exchange = request(path=b"/a/7")
    assert (table.match(exchange), exchange.params) == ("/a/{id}", {"id": b"7"})
    exchange = request(path=b"/a/7/c%20d")
    assert (table.match(exchange), exchange.params) == ("/a/{id}/{more}", {"id": b"7", "more": b"c%20d"})
    assert matched(table, b"/a/7/b") == "/a/{id}/b"
    assert matched(table, b"/a/7/b/") == 404


def test_parameters_are_set_only_where_there_are_some():
    exchange = request(path=b"/a")
    routes("/a", "/*").match(exchange)
    assert exchange.params is None
    exchange = request(path=b"/b/c")
    assert (routes("/a", "/*").match(exchange), exchange.params) == ("/*", None)


def test_the_leftmost_segment_decides():
    table = routes("/{a}/b/c", "/x/{b}/c", "/x/b/{c}", "/x/b/c", "/x/{rest*}")
    assert matched(table, b"/x/b/c") == "/x/b/c"
    assert matched(table, b"/x/b/d") == "/x/b/{c}"
    assert matched(table, b"/x/d/c") == "/x/{b}/c"
    assert matched(table, b"/y/b/c") == "/{a}/b/c"
    assert matched(table, b"/x/y/z") == "/x/{rest*}"


def test_a_branch_that_ends_nowhere_is_left_again():
    table = routes("/a/b/c", "/a/{x}/d", "/{y}/b/e", "/{z*}")
    assert matched(table, b"/a/b/d") == "/a/{x}/d"
    assert matched(table, b"/a/b/e") == "/{y}/b/e"
    assert matched(table, b"/a/b/f") == "/{z*}"


def test_typed_before_plain():
    table = routes("/c/{id:int}", "/c/{id:uuid}", "/c/{id:slug}", "/c/{id}", "/c/new")
    uuid = b"0b9c4fd2-7e37-4b87-9f9f-7d7b0f6d1c11"
    for segment, kind in ((b"7", "int"), (uuid, "uuid"), (b"a-b", "slug")):
        exchange = request(path=b"/c/" + segment)
        assert (table.match(exchange), exchange.params) == (f"/c/{{id:{kind}}}", {"id": segment})
    assert matched(table, b"/c/a.b") == "/c/{id}"
    assert matched(table, b"/c/new") == "/c/new"
    assert matched(table, b"/c/") == 404


def test_a_tail_takes_what_follows_and_nothing():
    table = routes("/docs/{rest*}", "/files/*")
    for path, rest in ((b"/docs", b""), (b"/docs/", b""), (b"/docs/a", b"a"), (b"/docs/a/b/", b"a/b/")):
        exchange = request(path=path)
        assert (table.match(exchange), exchange.params) == ("/docs/{rest*}", {"rest": rest})
    assert [matched(table, path) for path in (b"/files", b"/files/", b"/files/a")] == ["/files/*"] * 3
    assert matched(table, b"/docsx") == 404


def test_an_empty_tail_behind_a_literal_comes_before_a_parameter():
    table = routes("/a/b/{rest*}", "/a/{x}")
    assert matched(table, b"/a/b") == "/a/b/{rest*}"
    assert matched(table, b"/a/c") == "/a/{x}"


def test_slashes_beyond_the_deepest_template_belong_to_tails_alone():
    table = routes("/a/{x}", "/b/{x}/c")
    assert matched(table, b"/a/1/2/3/4") == 404
    assert matched(table, b"/b/1/c/") == 404
    table = routes("/{t*}", "/b/{x}/c")
    exchange = request(path=b"/b/1/c/" + b"d/" * 100)
    assert table.match(exchange) == "/{t*}"
    assert exchange.params == {"t": b"b/1/c/" + b"d/" * 100}


def test_get_serves_head_unless_a_route_names_it():
    table = compile_routes(
        [
            RouteSpec("get", "/a", methods=("GET",), value="get"),
            RouteSpec("head", "/a", methods=("HEAD",), value="head"),
            RouteSpec("other", "/b", methods=("GET",), value="other"),
        ]
    )
    assert matched(table, b"/a", b"HEAD") == "head"
    assert matched(table, b"/b", b"HEAD") == "other"


def test_methods():
    table = compile_routes(
        [
            RouteSpec("list", "/a", methods=("GET",), value="list"),
            RouteSpec("make", "/a", methods=("POST",), value="make"),
            RouteSpec("rest", "/a", value="rest"),
            RouteSpec("trace", "/t", methods=("TRACE",), value="trace"),
            RouteSpec("purge", "/b", methods=("PURGE",), value="purge"),
        ]
    )
    found = [matched(table, b"/a", method) for method in (b"GET", b"POST", b"PUT", b"OPTIONS", b"PURGE", b"ODD")]
    assert found == ["list", "make", "rest", "rest", "rest", "rest"]
    assert matched(table, b"/a", b"TRACE") == 405
    assert matched(table, b"/t", b"TRACE") == "trace"
    assert matched(table, b"/b", b"ODD") == 405


def test_an_unknown_method_goes_to_the_most_specific_route_without_methods():
    table = compile_routes(
        [
            RouteSpec("any", "/a/b", value="any"),
            RouteSpec("purge", "/a/{x}", methods=("PURGE",), value="purge"),
            RouteSpec("tail", "/*", value="tail"),
        ]
    )
    assert matched(table, b"/a/b", b"PURGE") == "any"
    assert matched(table, b"/a/b", b"ODD") == "any"
    assert matched(table, b"/a/c", b"ODD") == "tail"


def test_405_says_what_is_allowed_and_is_shared():
    table = compile_routes(
        [
            RouteSpec("get", "/a/{id}", methods=("GET",)),
            RouteSpec("post", "/a/{id}", methods=("POST",)),
            RouteSpec("put", "/{x}/{id}", methods=("PUT",)),
            RouteSpec("beta", "/h", methods=("GET",), headers={"x-beta": "*"}),
        ]
    )
    miss = table.match(request(b"DELETE", b"/a/1"))
    assert (miss.status, miss.allow) == (405, b"GET, HEAD, POST, PUT")
    assert table.match(request(b"PATCH", b"/a/2")) is miss
    assert table.match(request(b"GET", b"/h")) is table.match(request(b"GET", b"/nothing"))
    assert table.match(request(b"POST", b"/h")).allow == b"GET, HEAD"


def test_requests_without_a_path():
    table = routes("/*")
    assert matched(table, b"*", b"OPTIONS") == 404
    assert table.match(request(b"CONNECT", b"")).status == 405
    assert matched(routes("/{x}"), b"*", b"OPTIONS") == 404


def test_a_preflight_goes_where_its_request_would_go():
    table = compile_routes(
        [
            RouteSpec("shared", "/a", methods=("PUT",), value="shared", preflight=True),
            RouteSpec("closed", "/a", methods=("GET",), value="closed"),
            RouteSpec("rest", "/*", value="rest"),
        ]
    )

    def preflight(method: bytes, path: bytes = b"/a") -> object:
        asked = ((b"origin", b"https://b.example"), (b"access-control-request-method", method))
        return table.match(request(b"OPTIONS", path, headers=asked))

    assert preflight(b"PUT") == "shared"
    assert preflight(b"GET") == "rest"
    assert preflight(b"DELETE") == "rest"
    assert matched(table, b"/a", b"OPTIONS") == "rest"


def test_a_preflight_leaves_no_parameters_of_a_route_that_does_not_take_it():
    table = compile_routes(
        [
            RouteSpec("get", "/{id}", methods=("GET",), value="get"),
            RouteSpec("any", "/{other}", value="any", preflight=True),
        ]
    )
    asked = ((b"access-control-request-method", b"GET"),)
    exchange = request(b"OPTIONS", b"/a", headers=asked)
    assert (table.match(exchange), exchange.params) == ("any", {"other": b"a"})
    exchange = request(b"OPTIONS", b"/b", headers=((b"access-control-request-method", b"ODD"),))
    assert (table.match(exchange), exchange.params) == ("any", {"other": b"b"})
    exchange = request(b"OPTIONS", b"/", headers=asked)
    assert (table.match(exchange).status, exchange.params) == (404, None)


HOSTED = [
    RouteSpec("exact", "/{x}", hosts=("api.example.com", "[::1]"), value="exact"),
    RouteSpec("near", "/{x}", hosts=("*.example.com",), value="near"),
    RouteSpec("nearer", "/{x}", hosts=("*.eu.example.com",), value="nearer"),
    RouteSpec("any", "/{x}", value="any"),
    RouteSpec("only", "/x/y", hosts=("*.example.com",), methods=("GET",), value="only"),
    RouteSpec("fallback", "/x/{y}", methods=("POST",), value="fallback"),
]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"api.example.com", "exact"), (b"api.example.com:8443", "exact"), (b"[::1]:80", "exact"), (b"[::1]", "exact"),
        (b"b.example.com", "near"), (b"a.b.example.com", "near"), (b"a.eu.example.com:1", "nearer"),
        (b"eu.example.com", "near"), (b"example.com", "any"), (b"xexample.com", "any"), (b"", "any"),
    ],
)  # fmt: skip
def test_hosts(host, name):
    assert matched(compile_routes(HOSTED), b"/a", host=host) == name


def test_routes_of_all_hosts_that_match_are_candidates():
    table = compile_routes(HOSTED)
    assert matched(table, b"/x/y", b"GET", b"b.example.com") == "only"
    assert matched(table, b"/x/y", b"POST", b"b.example.com") == "fallback"
    assert table.match(request(b"PUT", b"/x/y", b"b.example.com")).allow == b"GET, HEAD, POST"
    assert table.match(request(b"PUT", b"/x/y", b"b.example")).allow == b"POST"


def test_remembered_hosts_are_bounded():
    table = compile_routes(HOSTED)
    for number in range(router._KNOWN_HOSTS + 10):
        assert matched(table, b"/a", host=b"h%d.example.com" % number) == "near"
    assert matched(table, b"/a", host=b"h" * 400) == "any"
    assert len(table._known) <= router._KNOWN_HOSTS
    assert b"h" * 400 not in table._known


def test_more_conditions_come_first():
    table = compile_routes(
        [
            RouteSpec("none", "/a", methods=("GET",), value="none"),
            RouteSpec("some", "/a", headers={"x-beta": "*"}, value="some"),
            RouteSpec("exact", "/a", headers={"x-beta": "2"}, value="exact"),
            RouteSpec("both", "/a", headers={"x-beta": "2"}, query={"v": "1 2"}, value="both"),
        ]
    )
    sent = ((b"x-beta", b"2"),)
    assert table.match(request(path=b"/a")) == "none"
    assert table.match(request(path=b"/a", headers=((b"x-beta", b""),))) == "some"
    assert table.match(request(path=b"/a", headers=sent)) == "exact"
    assert table.match(request(path=b"/a", headers=sent, query=b"v=1+2")) == "both"
    assert table.match(request(b"POST", b"/a")).status == 404  # POST is allowed, but what else is asked is not met


def test_everything_wrong_is_said_at_once():
    said = faults(
        RouteSpec("a", "/a/{x", methods=("get", "CONNECT"), hosts=("*",), headers={"X-A": "1", "host": "b"}),
        RouteSpec("b", "/b", headers={"x-b": "a\nb"}),
        RouteSpec("c", "/c"),
        RouteSpec("d", "/c"),
    )
    keys = [
        "a.methods",
        "a.methods",
        "a.headers",
        "a.headers",
        "a.hosts",
        "a.path",
        "b.headers.x-b",
        "d.path",
    ]
    assert [text.split(": ")[0] for text in said] == [f"routes.{key}" for key in keys]


def test_a_table_that_could_be_slow_is_refused():
    deep = ["/" + "/".join("a" if number >> bit & 1 else f"{{p{bit}}}" for bit in range(13)) for number in range(2**13)]
    (said,) = faults(*(RouteSpec(f"r{at}", path) for at, path in enumerate(deep)))
    assert said.startswith("routes: one request could take 24575 steps")
    assert routes(*deep[:512]).steps < router.conflicts.MAX_STEPS


# -- everything at once ---------------------------------------------------------------------------------------------

SEGMENTS = ["a", "b", "v1", "{p}", "{p:int}", "{p:slug}", "{p}.x", "v{p}", "v{p:int}", "{p:/[ab]+/}"]
TAILS = ["", "", "", "/", "/*", "/{rest*}"]
WORDS = [b"a", b"b", b"ab", b"1", b"v1", b"va", b"v.x", b"a.x", b"-", b""]
METHODS = [(), (), ("GET",), ("POST",), ("GET", "POST"), ("HEAD",), ("TRACE",), ("PURGE", "GET")]
HOSTS = [(), (), ("a.example",), ("*.example",), ("*.b.example", "a.example")]
HEADERS = [{}, {}, {"x": "1"}, {"x": "*"}, {"y": "*"}, {"x": "2", "y": "*"}]


@st.composite
def tables(draw: st.DrawFn) -> list[RouteSpec]:
    """Routes, in conflict or not."""
    specs = []
    for number in range(draw(st.integers(1, 9))):
        segments = draw(st.lists(st.sampled_from(SEGMENTS), max_size=3))
        named = [text.replace("{p", f"{{p{at}") for at, text in enumerate(segments)]
        path = "".join(f"/{text}" for text in named) + draw(st.sampled_from(TAILS)) or "/"
        specs.append(
            RouteSpec(
                f"r{number}",
                path,
                hosts=draw(st.sampled_from(HOSTS)),
                methods=draw(st.sampled_from(METHODS)),
                headers=draw(st.sampled_from(HEADERS)),
                value=f"r{number}",
            )
        )
    return specs


REQUESTS = st.builds(
    request,
    method=st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"TRACE", b"PURGE", b"ODD"]),
    path=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(lambda words: b"/" + b"/".join(words)),
    host=st.sampled_from([b"a.example", b"c.b.example:80", b"example", b"c.example"]),
    headers=st.sampled_from([(), ((b"x", b"1"),), ((b"x", b"2"), (b"y", b"")), ((b"x", b"1"), (b"x", b"2"))]),
)


def without_conflicts(specs: list[RouteSpec]) -> tuple[Router, list[RouteSpec]]:
    """The router of the routes that are left when those refused are taken out."""
    while True:
        try:
            return compile_routes(specs), specs
        except ConfigError as error:
            refused = {fault.path.split(".")[1] for fault in error.faults}
            specs = [spec for spec in specs if spec.name not in refused]


@settings(max_examples=150, deadline=None)
@given(tables(), st.lists(REQUESTS, min_size=1, max_size=25))
def test_the_router_answers_as_the_rules_say(specs, requests):
    table, kept = without_conflicts(specs)
    for exchange in requests:
        expected = oracle.answer(kept, exchange)
        found = table.match(exchange)
        if isinstance(found, Miss):
            allow = frozenset(found.allow.split(b", ")) if found.allow else frozenset()
            assert (found.status, allow - {b"PURGE"}) == (expected.what, expected.allow - {b"PURGE"})
        else:
            assert Answer(found, exchange.params or {}) == expected


PATHS = [b"/" + b"/".join(words) for count in (1, 2, 3) for words in product(WORDS, repeat=count)]
PATHS += [path + b"/" for path in PATHS]


@settings(max_examples=150, deadline=None)
@given(tables())
def test_no_route_is_refused_without_a_request_that_two_would_take(specs):
    try:
        compile_routes(specs)
    except ConfigError as error:
        named = {spec.name: spec for spec in specs}
        for fault in error.faults:
            other = re.search(r"route (r\d)", fault.message)
            assert _meet(named[fault.path.split(".")[1]], named[other[1]]), str(fault)


def _meet(one: RouteSpec, other: RouteSpec) -> bool:
    """Whether some path fits both templates and nothing known orders them, and hosts and methods can meet."""
    both = any(None not in (path_params(one.path, path), path_params(other.path, path)) for path in PATHS)
    shapes = [_shape(spec.path) for spec in (one, other)]
    differing = next((pair for pair in zip(*shapes, strict=False) if pair[0] != pair[1]), ((1,), (1,)))
    return (
        (both or "[ab]" in one.path + other.path)  # of a regex only its range is known
        and differing[0][0] == differing[1][0] == 1
        and bool(set(one.hosts or ("",)) & set(other.hosts or ("",)))
        and (not one.methods or not other.methods or bool(set(one.methods) & set(other.methods)))
    )


def _shape(path: str) -> list[tuple[int, str]]:
    """The template's segments, each with its rank, without the parameters' names."""
    pieces = re.sub(r"\{\w+", "{", path).replace("/[ab]+/", "[ab]").replace("{*}", "*").split("/")[1:]
    return [(key[0], piece) for key, piece in zip(path_key(path), pieces, strict=True)]
