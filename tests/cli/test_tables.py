"""Tables on a terminal."""

from __future__ import annotations

import pytest

from gatewayd.cli.tables import print_routes, print_status, span, targets
from gatewayd.gateway.explain import RouteRow


def target(address, **told):
    return {
        "address": address,
        "available": True,
        "requests": 10,
        "failures": 1,
        "in_flight": 2,
        "ejections": 1,
        **told,
    }


def upstream(*targets, breaker="closed"):
    return {"targets": targets, "breaker": {"state": breaker}}


def worker(index, **edge):
    return {
        "index": index,
        "pid": 4000 + index,
        "state": "serving",
        "generation": 3,
        "restarts": 0,
        "uptime_seconds": 61.0,
        "edge": {"connections": 7, "upstreams": {}, **edge},
    }


def status(**changes):
    return {
        "version": "1.2.3",
        "pid": 4321,
        "state": "serving",
        "generation": 3,
        "uptime_seconds": 90061.0,
        "configuration": "/etc/gatewayd/conf.toml",
        "routes": 12,
        "last_reload": None,
        "workers": [worker(0)],
        "listeners": {"http": {"address": "127.0.0.1:8080", "tls": False}},
        **changes,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h"), (90061, "1d 1h"), (86_399, "23h 59m")],
)
def test_spans(seconds, text):
    assert span(seconds) == text


def test_targets_of_all_workers():
    here = {"policies": upstream(target("a:1"), target("b:1", available=False), breaker="open")}
    there = {"policies": upstream(target("a:1", available=False, requests=5))}
    workers = [worker(0, upstreams=here), worker(1, upstreams=there), {**worker(2), "edge": None}]
    assert targets(workers) == [
        ("policies", "a:1", "1/2", 15, 2, 4, 2, "open"),
        ("policies", "b:1", "0/1", 10, 1, 2, 1, "open"),
    ]


def test_a_status(capsys):
    dead = {**worker(1), "edge": None, "state": "waiting"}
    print_status(status(workers=[worker(0, upstreams={"policies": upstream(target("a:1"))}), dead]))
    said = capsys.readouterr().out
    assert "gatewayd 1.2.3, process 4321, serving, generation 3, up 1d 1h" in said
    assert ["0", "4000", "serving", "3", "7", "0", "1m", "1s"] in [line.split() for line in said.splitlines()]
    assert ["1", "4001", "waiting", "3", "?", "0", "1m", "1s"] in [line.split() for line in said.splitlines()]
    assert ["policies", "a:1", "1/1", "10", "1", "2", "1", "closed"] in [line.split() for line in said.splitlines()]
    assert "last reload" not in said


def test_a_failed_reload_is_shown_with_its_faults(capsys):
    print_status(status(last_reload={"succeeded": False, "faults": ["conf.toml:7: routes.a: [bold]is wrong"]}))
    assert "last reload failed\n  conf.toml:7: routes.a: [bold]is wrong\n" in capsys.readouterr().out


def test_no_table_where_there_is_nothing(capsys):
    print_status(status(workers=[], listeners={}))
    assert "connections" not in capsys.readouterr().out


def test_routes(capsys):
    long = "/v1/" + "very-" * 20 + "long"
    rows = [
        RouteRow(
            "quotes",
            long,
            ("GET", "POST"),
            ("api.example.com",),
            ("http",),
            ("header x-beta = 2",),
            "reply 200",
            ("cors",),
        ),
        RouteRow("any", "/*", (), (), ("http", "https"), (), "redirect 308 to /", ()),
    ]
    print_routes(rows)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"quotes GET POST api.example.com {long} reply 200 cors http" in lines
    assert "header x-beta = 2" in lines
    assert "any any any /* redirect 308 to / http https" in lines
