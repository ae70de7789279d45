"""`gatewayd alerts`, with a control listener that writes down what it is asked."""

from __future__ import annotations

import json
import sys

import pytest

from gatewayd.cli import main
from gatewayd.server import running

ALERT = {
    "id": "a1",
    "at": "2026-03-02T09:00:00Z",
    "detector": "rate",
    "subject": "consumer:acme",
    "severity": "critical",
    "text": "consumer acme made 9 calls",
    "baseline": 1.0,
    "observed": 9.0,
    "contributors": [{"kind": "route", "name": "claims", "observed": 9.0, "baseline": 1.0, "share": 0.83}],
    "resolved_at": None,
}


@pytest.fixture
def shown(monkeypatch, capsys):
    """Runs `gatewayd alerts` with these words: exit code, what it printed, what was asked."""

    def run(*words, answer=(200, {"alerts": [ALERT]})):
        asked = []

        def ask(*arguments):
            asked.append(arguments)
            return answer

        monkeypatch.setattr(running, "ask", ask)
        monkeypatch.setattr(sys, "argv", ["gatewayd", "alerts", "--control", "127.0.0.1:1", *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr(), asked

    return run


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ([], "state=open&limit=100"),
        (["--open"], "state=open&limit=100"),
        (["--all", "--limit", "3"], "state=all&limit=3"),
        (["--detector", "rate", "--severity", "critical"], "state=open&detector=rate&severity=critical&limit=100"),
    ],
)
def test_what_is_asked(shown, words, query):
    code, _, ((address, method, path, _),) = shown(*words)
    assert (code, address, method, path) == (0, "127.0.0.1:1", "GET", f"/v1/alerts?{query}")


def test_for_people(shown):
    _, printed, _ = shown()
    assert printed.out.splitlines() == [
        "2026-03-02T09:00:00Z critical rate consumer:acme",
        "  consumer acme made 9 calls",
        "  most of it: route claims 83%",
        "  see: gatewayd logs --consumer acme --from 2026-03-02T09:00:00Z",
    ]


@pytest.mark.parametrize(
    ("detector", "subject", "words"),
    [
        ("rate", "route:claims", "--route claims"),
        ("errors", "gateway:", "--status 4xx --status 5xx"),
        ("sharing", "credential:acme/key-1", "--consumer acme --credential key-1"),
        ("enumeration", "consumer:a b /v1/claims/{id}", "--consumer 'a b' --operation '/v1/claims/{id}'"),
        ("enumeration", "address:0a1b2c3d /v1/{id}", "--operation '/v1/{id}'"),
        ("error_burst", "route:claims 5xx", "--route claims --status 5xx"),
        ("error_burst", "consumer:acme denied", "--consumer acme --status 401 --status 403"),
        ("quota_burn", "consumer:acme monthly", "--consumer acme"),
        ("rate", "consumer:", "--consumer ''"),
    ],
)
def test_how_to_see_the_calls(shown, detector, subject, words):
    over = {**ALERT, "detector": detector, "subject": subject, "resolved_at": "2026-03-02T11:00:00Z"}
    _, printed, _ = shown(answer=(200, {"alerts": [over]}))
    times = "--from 2026-03-02T09:00:00Z --to 2026-03-02T11:00:00Z"
    assert printed.out.splitlines()[-1] == f"  see: gatewayd logs {words} {times}"


def test_what_is_over_says_so(shown):
    over = {**ALERT, "resolved_at": "2026-03-02T11:00:00Z", "contributors": []}
    _, printed, _ = shown("--all", answer=(200, {"alerts": [over]}))
    assert printed.out.splitlines()[0].endswith("acme, over since 2026-03-02T11:00:00Z")
    assert "most of it" not in printed.out


def test_what_a_terminal_would_obey_is_written_out(shown):
    _, printed, _ = shown(answer=(200, {"alerts": [{**ALERT, "text": "consumer \x1b[2J made 9 calls"}]}))
    assert printed.out.splitlines()[1] == "  consumer \\x1b[2J made 9 calls"


def test_for_programs(shown):
    _, printed, _ = shown("--json")
    assert json.loads(printed.out) == {"alerts": [ALERT]}


def test_none(shown):
    assert shown(answer=(200, {"alerts": []}))[1].out == "no alerts\n"


def test_a_wrong_question_is_wrong_usage(shown):
    fault = {"path": "detector", "message": "is too long", "found": "", "allowed": ""}
    code, printed, _ = shown(answer=(400, {"error": "wrong", "faults": [fault]}))
    assert code == 2
    assert "--detector is too long" in printed.err


def test_a_refusal_is_told(shown):
    code, printed, _ = shown(answer=(503, {"error": "no calls are collected"}))
    assert (code, printed.err) == (1, "gatewayd: no calls are collected\n")
