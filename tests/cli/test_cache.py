"""`gatewayd cache`, with a control listener that writes down what it is asked."""

from __future__ import annotations

import sys

import pytest

from gatewayd.cli import main
from gatewayd.server import running


@pytest.fixture
def purge(monkeypatch, capsys):
    """Runs `gatewayd cache purge` with these words: exit code, what it printed, what was asked."""

    def run(*words, answer=(200, {"purged": 3})):
        asked = []

        def ask(*arguments):
            asked.append(arguments)
            return answer

        monkeypatch.setattr(running, "ask", ask)
        monkeypatch.setattr(sys, "argv", ["gatewayd", "cache", "purge", "--control", "127.0.0.1:1", *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr(), asked

    return run


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["--url", "https://a/b?c"], {"kind": "url", "value": "https://a/b?c"}),
        (["--prefix", "/b"], {"kind": "prefix", "value": "/b"}),
        (["--tag", "t"], {"kind": "tag", "value": "t"}),
        (["--all"], {"kind": "all", "value": ""}),
    ],
)
def test_what_is_asked(purge, words, body):
    code, printed, ((address, method, path, _, sent),) = purge(*words)
    assert (code, printed.out) == (0, "3 purged\n")
    assert (address, method, path, sent) == ("127.0.0.1:1", "POST", "/cache/purge", body)


@pytest.mark.parametrize("words", [[], ["--all", "--tag", "t"], ["--url", "/a", "--prefix", "/b"]])
def test_one_thing_at_a_time(purge, words):
    code, printed, asked = purge(*words)
    assert (code, asked) == (2, [])
    assert "--prefix" in printed.err


def test_a_refusal_is_told(purge):
    code, printed, _ = purge("--all", answer=(503, {"error": "the supervisor does not answer"}))
    assert (code, printed.err) == (1, "gatewayd: the supervisor does not answer\n")
