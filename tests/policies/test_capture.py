"""capture: what callers send and get is kept beside the call, whoever answers, and without secrets."""

from __future__ import annotations

import gzip
import sys
from typing import Any

import orjson
import pytest

from gatewayd import policies
from gatewayd.audit.record import Captured
from gatewayd.config.load import decode
from gatewayd.config.units import Size
from gatewayd.core.body import gather
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError
from gatewayd.identity import api_keys
from gatewayd.policies import capture
from gatewayd.policies.capture import Config, Redact
from tests.support.captured import BODY, HIDDEN, JSON, chunked, document, echoing, post, spying
from tests.support.edge import EdgeThread
from tests.support.policies import policy
from tests.support.raw import Caller
from tests.support.upstream import Peer, ScriptedUpstream, answer

PEPPER = "p" * 40


@pytest.fixture
def spy(monkeypatch):
    return spying(monkeypatch)


def test_both_sides_of_a_call_are_kept_without_secrets(spy):
    with (
        ScriptedUpstream(echoing) as upstream,
        EdgeThread(document(upstream.port)) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(post(BODY, b"Authorization: Bearer s3cr3t", b"X_Api_Key: s3cr3t", path=b"/x?token=s3cr3t&a=1"))
        assert caller.answer().body == BODY
        found = spy.one(edge)
    assert b"s3cr3t" in upstream.received
    assert (found.request_body, found.request_cut) == (HIDDEN, False)
    assert (found.reply_body, found.reply_cut) == (HIDDEN, False)
    assert found.query == b"token=[redacted]&a=1"
    assert {(b"authorization", b"[redacted]"), (b"x_api_key", b"[redacted]")} < set(found.request_headers)
    assert dict(found.reply_headers)[b"set-cookie"] == b"[redacted]"
    assert b"x-request-id" in dict(found.reply_headers), "what the caller gets, to the last field"


@pytest.mark.parametrize("send", [post, chunked])
@pytest.mark.parametrize("reply", ["length", "chunked", "gzip", "close"])
def test_however_bodies_are_framed(spy, send, reply):
    packed = gzip.compress(BODY)
    replies = {
        "length": b"content-length: %d\r\n\r\n" % len(BODY) + BODY,
        "chunked": b"transfer-encoding: chunked\r\n\r\n5\r\n"
        + BODY[:5]
        + b"\r\n%x\r\n" % len(BODY[5:])
        + BODY[5:]
        + b"\r\n0\r\n\r\n",
        "gzip": b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed,
        "close": b"connection: close\r\n\r\n" + BODY,
    }

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read_until(b"0\r\n\r\n" if send is chunked else b"}")
        peer.send(b"HTTP/1.1 200 OK\r\n" + JSON + replies[reply])

    with ScriptedUpstream(script) as upstream, EdgeThread(document(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(send(BODY))
        assert caller.answer().body == (packed if reply == "gzip" else BODY)
        found = spy.one(edge)
    assert (found.request_body, found.request_cut, found.reply_body, found.reply_cut) == (HIDDEN, False, HIDDEN, False)


def test_a_stream_is_not_delayed(spy):
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            piece = peer.read(10)
            peer.send(b"a\r\n" + piece + b"\r\n")
        peer.send(b"0\r\n\r\n")

    with ScriptedUpstream(script) as upstream, EdgeThread(document(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n" + JSON + b"\r\n")
        for digit in b"123":  # each piece is answered before the next one is sent
            caller.send(b"%c" % digit * 10)
            data = b""
            while b"%c" % digit * 10 not in data:
                data += caller.sock.recv(65536)
        found = spy.one(edge)
    assert (found.request_cut, found.reply_cut) == (False, False)


def test_large_bodies_pass_whole_and_are_kept_in_part(spy):
    large = b"x" * 3_000_000

    def script(peer: Peer) -> None:
        peer.read_head()
        assert len(peer.read(len(large))) == len(large)
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(large) + large)

    options = {"request_body": "100B", "reply_body": "10B", "redact": {"names": []}}
    with ScriptedUpstream(script) as upstream:
        found = document(upstream.port, "paced", **options)
        found["policies"]["paced"] = {"policy": "bandwidth_limit", "reply": "1GiB/s", "request": "1GiB/s"}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 3000000\r\n\r\n" + large
            )
            assert caller.answer().body == large
            kept = spy.one(edge)
    assert (kept.request_body, kept.request_cut) == (b"x" * 100, True)
    assert (kept.reply_body, kept.reply_cut) == (b"x" * 10, True)
    assert kept.request_headers == kept.reply_headers == []


def test_json_larger_than_the_limit_is_withheld(spy):
    with ScriptedUpstream(echoing) as upstream:
        small = document(upstream.port, request_body="20B")
        with EdgeThread(small) as edge, Caller(edge.port) as caller:
            caller.send(post(BODY))
            assert caller.answer().body == BODY
            found = spy.one(edge)
    assert found.request_body.startswith(b"[not kept: cut off")
    assert found.request_cut
    assert found.reply_body == b""


def keyed(port: int, *more: str) -> tuple[dict[str, Any], str]:
    """A route that asks for an API key in a header of its own, and a key."""
    key = api_keys.new_key("live")
    found = document(port, "keys", *more)
    found["policies"]["keys"] = {"policy": "api_key", "header": "X-Partner", "query": "partner"}
    found["identity"] = {"pepper": PEPPER}
    stored = api_keys.stored(api_keys.hasher(PEPPER)(key.encode()))
    found["consumers"] = {"ann": {"plan": "gold", "keys": [{"id": "k1", "hash": stored}]}}
    return found, key


@pytest.mark.parametrize("right", [True, False])
def test_credentials_of_the_route_are_hidden_also_of_calls_that_are_refused(spy, right):
    with ScriptedUpstream() as upstream:
        found, key = keyed(upstream.port)
        key = key if right else "s3cr3t"
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            assert caller.ask("/?b=1", f"X-Partner: {key}").status == (200 if right else 401)
            kept = spy.one(edge)
            spy.seen.clear()
            assert caller.ask(f"/?Partner=%20&part%6Eer={key}").status == (200 if right else 401)
            queried = spy.one(edge)
    assert (b"x-partner", b"[redacted]") in kept.request_headers
    assert key.encode() not in orjson.dumps(repr(kept))
    assert right or b"credential_invalid" in kept.reply_body
    assert queried.query == b"Partner=[redacted]&part%6Eer=[redacted]"


def test_on_a_plan_it_captures_for_those_who_have_it(spy):
    with ScriptedUpstream() as upstream:
        found, key = keyed(upstream.port)
        found["routes"]["all"]["policies"].remove("evidence")
        found["plans"] = {"gold": {"policies": ["evidence"]}}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            assert caller.ask("/?a=1", f"X-Partner: {key}").status == 200
            assert spy.one(edge).query == b"a=1"
            spy.seen.clear()
            assert caller.ask().status == 401
            edge.until(lambda: spy.seen)
    assert spy.seen == [(401, None)]


def test_replies_from_the_cache_are_captured_like_others(spy):
    reply = (
        b"HTTP/1.1 200 OK\r\n" + JSON + b"cache-control: max-age=60\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    )
    with ScriptedUpstream(answer(reply)) as upstream:
        found = document(upstream.port, "cache")
        found["policies"]["cache"] = {}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            for _ in range(2):
                spy.seen.clear()
                assert caller.ask().body == BODY
                assert spy.one(edge).reply_body == HIDDEN
            assert b"hit" in dict(spy.one(edge).reply_headers)[b"cache-status"]
    assert upstream.received.count(b"GET") == 1


def test_an_instance_called_capture_is_nobody_s_evidence(spy):
    """Policies keep things under their instances' names: none of them can get into the record."""
    with ScriptedUpstream(echoing) as upstream:
        found = document(upstream.port, "capture")
        found["policies"]["capture"] = {"policy": "cache"}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.ask("/", "Range: bytes=0-1")  # passes by the cache, which notes why
            assert isinstance(spy.one(edge), Captured)


def test_only_some_statuses(spy):
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            peer.send(b"HTTP/1.1 %b Some\r\ncontent-length: 0\r\n\r\n" % head.split(b"/")[1][:3])

    with ScriptedUpstream(script) as upstream:
        found = document(upstream.port, request_headers=["*"], statuses=["404", "5xx"])
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            for status in (200, 404, 405, 501):
                assert caller.ask(f"/{status}").status == status
            edge.until(lambda: len(spy.seen) == 4)
    assert [(status, found is not None) for status, found in spy.seen] == [
        (200, False), (404, True), (405, False), (501, True),
    ]  # fmt: skip


def test_a_share_of_calls(spy, monkeypatch):
    draws = iter([0.1, 0.6, 0.4])
    monkeypatch.setattr(capture.random, "random", lambda: next(draws))
    with ScriptedUpstream() as upstream:
        found = document(upstream.port, request_headers=["*"], sample=0.5)
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            for _ in range(3):
                caller.ask()
            edge.until(lambda: len(spy.seen) == 3)
    assert [found is not None for _, found in spy.seen] == [True, False, True]


def test_a_body_that_another_policy_gathered_first(spy, monkeypatch):
    """http_signature reads bodies before they are sent on: they are kept once, and paced all the same."""
    with ScriptedUpstream(echoing) as upstream:
        found = document(upstream.port, "gatherer", "paced")
        found["policies"]["gatherer"] = {}
        found["policies"]["paced"] = {"policy": "bandwidth_limit", "request": "1GiB/s"}

        async def access(exchange):
            assert await gather(exchange, 1000) == BODY

        monkeypatch.setitem(sys.modules, "gatewayd.policies.gatherer", policy(Hooks(access=access)))
        monkeypatch.setattr(policies, "ORDER", ("capture", "gatherer", *policies.ORDER[1:]))
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(post(BODY))
            assert caller.answer().body == BODY
            assert spy.one(edge).request_body == HIDDEN


def test_pipelined_calls_are_kept_apart(spy):
    with (
        ScriptedUpstream(echoing) as upstream,
        EdgeThread(document(upstream.port)) as edge,
        Caller(edge.port) as caller,
    ):
        bodies = [b'{"n":%d}' % number for number in range(5)]
        caller.send(b"".join(map(post, bodies)))
        assert [caller.answer().body for _ in bodies] == bodies
        edge.until(lambda: len(spy.seen) == 5)
    assert [(found.request_body, found.reply_body) for _, found in spy.seen] == [(each, each) for each in bodies]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "request_headers"),
        ({"request_body": Size(2**20 + 1)}, "request_body"),
        ({"query": True, "redact": Redact(paths=["$.a", "b"])}, "redact.paths[1]"),
    ],
)
def test_what_cannot_be_meant(options, path):
    with pytest.raises(ConfigError) as error:
        capture.build(Config(**options), BuildContext())
    assert [fault.path for fault in error.value.faults] == [path]


def test_the_places_of_credentials_are_the_configuration_s():
    found = decode(
        {
            "policies": {
                "a": {"policy": "api_key", "header": "X-A", "query": "qa"},
                "api_key": {"header": ""},
                "jwt": {"place": "header:X-J"},
                "i": {"policy": "introspection", "place": "cookie:c"},
                "t": {"policy": "upstream_token", "header": "X-T"},
            }
        }
    )
    assert list(capture._places(found, "header")) == ["X-A", "X-J"]
    assert list(capture._places(found, "query")) == ["qa"]


def test_explain():
    config = Config(request_headers=["*"], reply_body=Size(1024), query=True)
    assert capture.build(config, BuildContext()).explain == "request headers *, reply body up to 1KiB, query"
