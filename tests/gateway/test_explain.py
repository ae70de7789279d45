"""Explanations: the route, the chain and the target, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from gatewayd.config import model
from gatewayd.config.load import decode
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Hooks, Route
from gatewayd.core.problem import problem
from gatewayd.errors import ConfigError
from gatewayd.gateway.build import Ground, build
from gatewayd.gateway.explain import Explanation, explain, route_table
from gatewayd.gateway.router import RouteSpec, compile_routes
from gatewayd.gateway.snapshot import ChainLink, Snapshot


@dataclass
class FakeTarget:
    address: str
    weight: int
    available: bool


@dataclass
class FakeUpstream:
    targets: tuple[FakeTarget, ...]


ROUTES = {
    "policy": model.Route(
        path="/v1/policies/{id:int}",
        hosts=["*.example.com"],
        methods=["GET"],
        service="policies",
        strip_prefix="/v1",
        add_prefix="/internal",
    ),
    "beta": model.Route(path="/v1/policies/{id}", headers={"x-beta": "1"}, service="direct"),
    "any": model.Route(path="/v1/policies/{id}", service="direct", query={}),
    "old": model.Route(path="/old/*", redirect=model.Redirect(to="/new/{path}", status=301)),
    "hello": model.Route(path="/hello", methods=["GET"], query={"v": "*"}, reply=model.StaticReply(status=204)),
    "internal": model.Route(path="/internal", listeners=["inside"], reply=model.StaticReply()),
}


def snapshot(**gateway: Any) -> Snapshot:
    """Two listeners, two upstreams, and a route of every kind."""
    document = model.Document(
        gateway=model.Gateway(**gateway),
        listeners={
            "http": model.Listener(address="127.0.0.1:8080"),
            "inside": model.Listener(address="127.0.0.1:8081"),
        },
        upstreams={
            "policies": model.Upstream(
                targets=[model.Target(address="127.0.0.1:9000"), model.Target(address="later:80")]
            ),
        },
        services={
            "policies": model.Service(upstream="policies", host="target"),
            "direct": model.Service(upstream="policies"),
        },
        routes=ROUTES,
    )
    links = (
        ChainLink("limits", "request_size", "enforce", "closed", Hooks(explain="at most 1 MiB")),
        ChainLink("partners", "cors", "observe", "open", Hooks()),
    )
    compiled: dict[str, Route] = {name: Route(name, lambda exchange: None) for name in ROUTES}
    routers = {
        listener: compile_routes(
            [
                RouteSpec(name, r.path, r.hosts, r.methods, r.headers, r.query, compiled[name])
                for name, r in ROUTES.items()
                if not r.listeners or listener in r.listeners
            ]
        )
        for listener in document.listeners
    }
    upstreams: Any = {"policies": FakeUpstream((FakeTarget("127.0.0.1:9000", 3, True),))}
    return Snapshot(7, document, routers, compiled, {"policy": links}, upstreams=upstreams)


def said(method: str, url: str, *headers: tuple[str, str], listener: str = "http", **gateway: Any) -> Explanation:
    """The explanation of a request."""
    return explain(snapshot(**gateway), listener, method, url, headers, "192.0.2.7")


def test_a_proxied_request():
    explanation = said("GET", "https://API.example.com:8443/v1/./policies/%34%32?full=1")
    assert explanation.lines() == [
        "GET https://API.example.com:8443/v1/./policies/%34%32?full=1 from 192.0.2.7 at listener http",
        "  path      /v1/policies/42?full=1  host api.example.com:8443",
        "  route     policy: /v1/policies/{id:int} at host *.example.com",
        "            id = 42",
        "  policy 1  limits (request_size, enforce, fails closed): at most 1 MiB",
        "  policy 2  partners (cors, observe, fails open)",
        "  answer    service policies → upstream policies",
        "  sent      GET /internal/policies/42?full=1  host the target's address",
        "  target    127.0.0.1:9000 weight 1",
        "  target    later:80 weight 1  not resolved yet",
    ]
    assert (explanation.status, explanation.service, explanation.upstream) == (0, "policies", "policies")
    assert explanation.params == {"id": "42"}


def test_more_specific_routes_are_named_with_the_reason():
    explanation = said("PUT", "/v1/policies/42", ("Host", "api.example.com"))
    assert (explanation.route, explanation.host_rule) == ("any", "")
    assert explanation.passed_over == [("policy", "does not take method PUT"), ("beta", "asks for header x-beta = 1")]
    assert explanation.upstream_host == "api.example.com"
    explanation = said("PUT", "/v1/policies/42", ("Host", "api.example.com"), ("X-Beta", "1"))
    assert explanation.route == "beta"


def test_redirects_and_replies():
    explanation = said("GET", "http://a/old/x%20y")
    assert explanation.answer == "redirect 301 to /new/{path}"
    assert explanation.lines()[-1] == "  location  /new//old/x%20y"
    explanation = said("GET", "http://a/hello?v")
    assert (explanation.answer, explanation.targets) == ("reply 204", [])
    assert explanation.lines()[-1] == "  answer    reply 204"


def test_a_request_without_host():
    assert said("GET", "/hello?v").lines()[1] == "  path      /hello?v  no host: only HTTP/1.0 does without"


def hashed(document: model.Document, *headers: tuple[str, str]) -> list[str]:
    """What is said of targets, for a request with `headers`."""
    return explain(build(document, Ground()), "http", "GET", "http://a/", headers, "192.0.2.7").lines()[-3:]


def test_the_target_that_a_key_leads_to():
    """The hash of a real request: whoever it picks is named, and only where the request has such a key."""
    targets = [model.Target(address=f"127.0.0.{number}:9000") for number in (1, 2, 3)]
    document = model.Document(
        listeners={"http": model.Listener(address="127.0.0.1:8080")},
        upstreams={"up": model.Upstream(targets=targets, balance="consistent_hash", hash_on="header:x-id")},
        services={"up": model.Service(upstream="up")},
        routes={"all": model.Route(path="/*", service="up")},
    )
    exchange = Exchange()
    for key in ("7", "8", "9"):
        exchange.headers = [(b"x-id", key.encode())]
        group = build(document, Ground()).upstreams["up"]
        marked = [line.split()[1] for line in hashed(document, ("X-Id", key)) if "its header:x-id leads here" in line]
        assert marked == [group.pick(exchange).address]
    assert not [line for line in hashed(document) if "leads here" in line]


def test_405():
    explanation = said("DELETE", "http://a/hello?v")
    assert (explanation.status, explanation.code, explanation.allow) == (405, "method_not_allowed", "GET, HEAD")
    assert explanation.lines()[-2:] == [
        "  not       hello: does not take method DELETE",
        "  answer    405 method_not_allowed: the path's routes take other methods; Allow: GET, HEAD",
    ]


def test_404_says_what_was_near():
    explanation = said("GET", "http://a/hello")
    assert (explanation.status, explanation.code) == (404, "route_not_found")
    assert explanation.passed_over == [("hello", "asks for query v")]
    assert said("GET", "http://a/nothing").lines()[-1] == "  answer    404 route_not_found: no route has this path"


def test_404_names_routes_of_other_hosts():
    only_hosted = compile_routes([RouteSpec("policy", "/x", hosts=["*.example.com"])])
    shot = snapshot()
    shot.routers["http"] = only_hosted
    explanation = explain(shot, "http", "GET", "http://other.example/x")
    assert explanation.passed_over == [("policy", "asks for host *.example.com")]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://a/x/../..", "path_outside_root"),
        ("http://a/a%2Fb", "path_encoded_slash"),
        ("http://user@a/", "host_malformed"),
        ("http://a/é", "target_bad_character"),
        ("a", "target_malformed"),
    ],
)
def test_400(url, code):
    explanation = said("GET", url)
    assert (explanation.status, explanation.code) == (400, code)
    assert len(explanation.lines()) == 2


def test_two_hosts_are_refused_and_one_overrides_the_url():
    assert said("GET", "/", ("Host", "a"), ("Host", "a")).code == "host_repeated"
    assert said("GET", "http://a/hello?v", ("Host", "B:80")).host == "b:80"


def test_the_rules_for_paths_are_the_documents():
    paths = model.Paths(empty_segments="refuse")
    assert said("GET", "http://a//hello?v", paths=paths).code == "path_empty_segment"


def test_listeners():
    assert said("GET", "http://a/internal", listener="inside").route == "internal"
    assert said("GET", "http://a/internal").status == 404
    with pytest.raises(ConfigError, match="there is no such listener; found outside; allowed: http, inside"):
        said("GET", "/", listener="outside")


def test_the_table_of_routes():
    rows = {row.name: row for row in route_table(snapshot())}
    assert list(rows) == list(ROUTES)
    policy = rows["policy"]
    assert (policy.path, policy.methods, policy.hosts) == ("/v1/policies/{id:int}", ("GET",), ("*.example.com",))
    assert (policy.listeners, policy.policies) == (("http", "inside"), ("limits", "partners"))
    assert policy.answer == "service policies → upstream policies"
    assert rows["internal"].listeners == ("inside",)
    assert rows["beta"].conditions == ("header x-beta = 1",)
    assert rows["hello"].conditions == ("query v",)


def test_what_policies_say_of_the_caller():
    refusal = problem(403, "not_allowed")
    links = (
        ChainLink("who", "api_key", "enforce", "closed", Hooks(access=lambda _: None, authenticate=lambda _: None)),
        ChainLink("acl", "acl", "enforce", "closed", Hooks(access=lambda _: refusal, why=lambda _: "no rule holds")),
        ChainLink("more", "acl", "enforce", "closed", Hooks(access=lambda _: None, why=lambda _: "")),
    )
    shot = snapshot()
    shot.chains["hello"] = links
    assert explain(shot, "http", "GET", "http://a/hello?v").lines()[-7:] == [
        "  policy 1  who (api_key, enforce, fails closed)",
        "            passes",
        "  policy 2  acl (acl, enforce, fails closed)",
        "            refuses with 403 not_allowed: no rule holds",
        "  policy 3  more (acl, enforce, fails closed)",
        "  answer    403 not_allowed by acl",
        "  otherwise reply 204",
    ]


def for_plan(plan: str, method: str) -> list[str]:
    """The last lines about a request of a caller with `plan`."""
    document = decode(
        {
            "listeners": {"http": {"address": "127.0.0.1:8080"}},
            "routes": {"all": {"path": "/*", "reply": {"status": 204}, "policies": ["who"]}},
            "plans": {"gold": {"policies": ["few", "readers"]}},
            "consumers": {"ann": {"plan": plan}},
            "policies": {
                "who": {"policy": "authentication", "any_of": ["passwords"], "anonymous": "ann"},
                "passwords": {"policy": "basic_auth"},
                "few": {"policy": "rate_limit", "rate": "5/m"},
                "readers": {"policy": "acl", "deny": [{"methods": ["DELETE"]}]},
            },
        }
    )
    return explain(build(document, Ground()), "http", method, "http://a/").lines()[3:]


def test_what_the_callers_plan_has_and_says():
    who = "  policy 1  who (authentication, enforce, fails closed): any of: passwords; without any: ann"
    assert for_plan("", "DELETE") == [who, "            passes: consumer ann, by anonymous", "  answer    reply 204"]
    assert for_plan("gold", "DELETE") == [
        who,
        "            passes: consumer ann, by anonymous, plan gold",
        "  policy 2  readers (acl, enforce, fails closed): deny methods DELETE",
        "            refuses with 403 not_allowed: deny[0] holds: methods DELETE",
        "  policy 3  few (rate_limit, enforce, fails closed): 5/m, 5 at once, for each address",
        "  answer    403 not_allowed by readers",
        "  otherwise reply 204",
    ]
    assert for_plan("gold", "GET")[-2:] == [
        "  policy 3  few (rate_limit, enforce, fails closed): 5/m, 5 at once, for each address",
        "  answer    reply 204",
    ]
