"""Shadowed and ambiguous routes: found, named, and nothing else refused."""

import pytest

from gatewayd.errors import ConfigError
from gatewayd.gateway.router import RouteSpec, compile_routes


def faults(*specs: RouteSpec) -> list[str]:
    """What is wrong with the routes."""
    try:
        compile_routes(specs)
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return []


def pair(first: dict[str, object], second: dict[str, object]) -> list[str]:
    """What is wrong with routes a and b."""
    return faults(RouteSpec("a", **({"path": "/x"} | first)), RouteSpec("b", **({"path": "/x"} | second)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"path": "/x/{id}"}, {"path": "/x/{other}"}),
        ({"path": "/x/{id:int}"}, {"path": "/x/{other:int}"}),
        ({"path": "/x/{id:/.*/}"}, {"path": "/x/{other}"}),
        ({"path": "/x/*"}, {"path": "/x/{rest*}"}),
        ({"methods": ["GET", "POST"]}, {"methods": ["GET"]}),
        ({"headers": {"x": "1"}}, {"headers": {"x": "1"}}),
        ({"hosts": ["A.example"]}, {"hosts": ["a.example"]}),
    ],
)
def test_shadowed(first, second):
    (said,) = pair(first, second)
    assert said.startswith("routes.b.path: can never match: route a takes the same requests")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"methods": ["GET"]}, {"methods": ["GET", "POST"]}),
        ({"headers": {"x": "1"}}, {"headers": {"y": "1"}}),
        ({"headers": {"x": "1"}}, {"query": {"x": "1"}}),
        ({"headers": {"x": "*"}}, {"headers": {"y": "*"}}),
        ({"path": "/{a:/x.*/}"}, {"path": "/{b:/.*y/}"}),
        ({"path": "/{a:/x.*/}"}, {"path": "/{b:slug}"}),
        ({"path": "/{a}.pdf"}, {"path": "/x{b}"}),
        ({"path": "/{a:/x.*/}/{c}"}, {"path": "/{b:/.*y/}/d"}),
        ({"path": "/{a:/x.*/}/{c*}"}, {"path": "/{b:/.*y/}/d/e"}),
        ({"path": "/{a:/x.*/}/d/{e:int}"}, {"path": "/{b:/.*y/}/{c}/7"}),
    ],
)
def test_ambiguous(first, second):
    (said,) = pair(first, second)
    assert "is ambiguous" in said
    assert "route a" in said or "route b" in said


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"path": "/x"}, {"path": "/x/"}),
        ({"path": "/x"}, {"path": "/x/*"}),
        ({"path": "/x/y"}, {"path": "/x/{id}"}),
        ({"path": "/x/{id:int}"}, {"path": "/x/{id:slug}"}),
        ({"path": "/x/{id:int}"}, {"path": "/x/{id:uuid}"}),
        ({"path": "/x/{id:/[a-z]+/}"}, {"path": "/x/{id}"}),
        ({"path": "/x/{id:/v.*/}"}, {"path": "/x/{id:/w.*/}"}),
        ({"path": "/x/{a:/x.*/}/c"}, {"path": "/x/{b:/.*y/}/d"}),
        ({"path": "/x/{a:/x.*/}/c", "methods": ["GET"]}, {"path": "/x/{b:/.*y/}/c", "methods": ["PUT"]}),
        ({"methods": ["GET"]}, {"methods": ["POST"]}),
        ({"methods": ["GET"]}, {"methods": ["HEAD"]}),
        ({"methods": ["GET"]}, {}),
        ({"headers": {"x": "1"}}, {}),
        ({"headers": {"x": "1"}}, {"headers": {"x": "2"}}),
        ({"headers": {"x": "1"}}, {"headers": {"x": "*"}}),
        ({"hosts": ["a.example"]}, {}),
        ({"hosts": ["*.example"]}, {"hosts": ["a.example"]}),
        ({"path": "/{a}/b"}, {"path": "/x/{b}"}),
    ],
)
def test_in_order(first, second):
    assert pair(first, second) == []
    assert pair(second, first) == []


def test_a_conflict_says_where_and_is_said_once():
    (said,) = pair({"hosts": ["a.example", "b.example"]}, {"hosts": ["b.example", "c.example"]})
    assert said == "routes.b.path: can never match: route a takes the same requests at host b.example"
    (said,) = pair({"methods": ["GET", "PUT"]}, {"methods": ["GET", "POST", "PUT"]})
    assert "route a is as specific and takes GET, PUT too" in said
    assert len(pair({"hosts": ["b.example", "B.example"]}, {"hosts": ["b.example", "b.example."]})) == 1


def test_steps_count_what_a_request_can_reach():
    assert compile_routes([]).steps == 0
    lines = [RouteSpec(f"r{at}", f"/a/{at}/{{x}}/b") for at in range(100)]
    assert compile_routes(lines).steps < 10
    conditions = [RouteSpec(f"r{at}", "/a", headers={"x": str(at)}) for at in range(50)]
    assert compile_routes(conditions).steps >= 50
    hosts = [RouteSpec(f"r{at}", "/a", hosts=[host]) for at, host in enumerate(("*.b.c", "*.c", "a.b.c", "x.y"))]
    assert compile_routes(hosts).steps == 3 * compile_routes(hosts[-1:]).steps
