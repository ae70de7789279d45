"""The router's micro benchmark runs, agrees with the tree it is compared with, and reports what it says."""

import json

import pytest

from benchmarks import router


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch):
    monkeypatch.setattr(router, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(router, "ROUNDS", 1)


def test_the_table(capsys):
    router.main(["--routes", "10", "--routes", "500"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| ns per match, CPU | 10 routes | 500 routes |"
    assert [line.split(" | ")[0] for line in lines[2:6]] == ["| static", "| second method", "| {id}", "| {id}/notes"]
    assert all(line.count("|") == 4 for line in lines)


def test_json(capsys):
    router.main(["--routes", "300", "--json", "-"])
    (figures,) = json.loads(capsys.readouterr().out)
    assert figures["routes"] == 300
    assert figures["router"]["ns"].keys() > figures["radix"]["ns"].keys()
    assert figures["router"]["bytes_per_route"] > 0


def test_portfolios_have_the_size_they_claim():
    assert len(router.paths(1_000)) == len(set(router.paths(1_000))) == 1_000
    assert all(
        router.Radix(router.paths(200)).match(router.exchange_of(*request)) is not None
        for name, request in router.requests(200).items()
        if name in ("static", "{id}", "two parameters")
    )
