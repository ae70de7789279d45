"""api_key on a whole edge: what targets, logs and replies see of a key; what a reload changes."""

from __future__ import annotations

import json

import pytest

from gatewayd.errors import ConfigError
from gatewayd.identity import api_keys
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream

PEPPER = "p" * 32
KEY, OTHER = api_keys.new_key("live"), api_keys.new_key("live")


def line(consumer, key, **more):
    stored = api_keys.stored(api_keys.hasher(PEPPER)(key.encode()))
    return json.dumps({"id": consumer, "keys": [{"id": "k1", "hash": stored, **more}]}) + "\n"


@pytest.fixture
def guarded(tmp_path):
    """A function that makes a document whose routes ask for a key of the consumers file."""

    def make(document, **identity):
        path = tmp_path / "consumers.jsonl"
        if not path.exists():
            path.write_text(line("acme", KEY))
        return {
            **document,
            "gateway": {"state_dir": str(tmp_path / "state"), "policies": ["who"]},
            "identity": {"pepper": PEPPER, "consumers_file": str(path), **identity},
            "policies": {"who": {"policy": "api_key", "query": "api_key"}},
        }

    return make


def saying(body):
    return {"routes": {"all": {"path": "/*", "reply": {"body": body}}}}


def test_neither_targets_nor_logs_see_a_key(guarded, tmp_path):
    heads = []

    def script(peer: Peer) -> None:
        while head := peer.read_head():
            heads.append(head)
            peer.send(OK)

    log = tmp_path / "access.log"
    with ScriptedUpstream(script) as upstream:
        document = guarded(proxied(upstream.port))
        document["access_log"] = {"path": str(log), "flush_interval": 0.01}
        with EdgeThread(document) as edge, Caller(edge.port) as caller:
            secret = KEY[8:40].encode()
            assert caller.ask("/a", f"X-Api-Key: {KEY}").status == 200
            assert caller.ask(f"/b?x=1&api_key={KEY}&y=2").status == 200
            assert caller.ask(f"/c?api_key={KEY}x").status == 401
            edge.call(edge.edge._pipeline.record)
    lines = [json.loads(text) for text in log.read_text().splitlines()]
    assert [head.split(b" ")[1] for head in heads] == [b"/a", b"/b?x=1&y=2"]
    assert not [head for head in heads if secret in head]
    assert [each["path"] for each in lines] == ["/a", "/b", "/c"]
    assert secret not in log.read_bytes()


def test_a_reload_brings_and_takes_keys(guarded, tmp_path):
    path = tmp_path / "consumers.jsonl"
    with EdgeThread(guarded(saying("hi"))) as edge, Caller(edge.port) as caller:

        def statuses():
            return [caller.ask("/", f"X-Api-Key: {key}").status for key in (KEY, OTHER)]

        assert statuses() == [200, 401]
        path.write_text(line("acme", KEY) + line("bert", OTHER))
        edge.apply(guarded(saying("hi")))
        assert statuses() == [200, 200]
        path.write_text(line("acme", KEY, revoked="2026-01-01") + line("bert", OTHER))
        edge.apply(guarded(saying("hi")))
        assert statuses() == [401, 200]
        path.write_text(line("acme", KEY) + "{\n")
        with pytest.raises(ConfigError, match="not JSON"):
            edge.apply(guarded(saying("hi")))
        assert statuses() == [401, 200]


def test_guessing_is_slowed_down_over_connections(guarded):
    with EdgeThread(guarded(saying("hi"), failures_per_address="3/m")) as edge:
        answers = []
        for _ in range(5):
            with Caller(edge.port) as caller:
                answers.append(caller.ask("/", "X-Api-Key: " + api_keys.new_key("live")))
        assert [each.code for each in answers] == ["credential_invalid"] * 3 + ["too_many_failures"] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20


def test_a_replaced_key_is_warned_of(guarded, tmp_path):
    (tmp_path / "consumers.jsonl").write_text(line("acme", KEY, grace_until="2999-01-01"))
    with EdgeThread(guarded(saying("hi"))) as edge, Caller(edge.port) as caller:
        answer = caller.ask("/", f"X-Api-Key: {KEY}")
        assert (answer.status, answer.headers["gatewayd-key-expires"]) == (200, "Tue, 01 Jan 2999 00:00:00 GMT")
