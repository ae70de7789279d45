"""capture where calls end otherwise than plainly: retries, early answers, callers that leave, tunnels, mistakes."""

from __future__ import annotations

import gc

import pytest

from gatewayd.audit.capturing import Tap
from gatewayd.audit.record import CAPTURED
from gatewayd.audit.redaction import Redaction
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.gateway.pipeline import Pipeline
from tests.support.captured import BODY, HIDDEN, JSON, document, echoing, post, spying
from tests.support.edge import EdgeThread
from tests.support.raw import Caller, leave
from tests.support.records import calls_in
from tests.support.upstream import Peer, ScriptedUpstream, answer


@pytest.fixture
def spy(monkeypatch):
    return spying(monkeypatch)


def test_a_request_that_is_sent_twice_is_kept_once(spy):
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read(len(BODY))
        if peer.number == 0:
            peer.reset()
        else:
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    with ScriptedUpstream(script) as upstream:
        found = document(upstream.port)
        found["services"]["up"]["retries"] = {"attempts": 2}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(post(BODY).replace(b"POST", b"PUT", 1))
            assert caller.answer().status == 200
            assert spy.one(edge).request_body == HIDDEN
    assert len(upstream.peers) == 2


def test_heads_and_interim_replies(spy):
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: 5\r\n\r\n"
    with ScriptedUpstream(answer(early + final)) as upstream:
        served = document(upstream.port)
        with EdgeThread(served) as edge, Caller(edge.port) as caller:
            assert caller.ask("/", method="HEAD").status == 200
            found = spy.one(edge)
    assert (found.reply_body, found.reply_cut) == (b"", False)
    assert b"link" not in dict(found.reply_headers)


def test_a_body_that_waits_for_100_continue(spy):
    with (
        ScriptedUpstream(echoing) as upstream,
        EdgeThread(document(upstream.port)) as edge,
        Caller(edge.port) as caller,
    ):
        head, body = post(BODY, b"expect: 100-continue").split(b"\r\n\r\n")
        caller.send(head + b"\r\n\r\n")
        upstream.wait_for(lambda: b"\r\n\r\n" in upstream.received)
        caller.send(body)
        assert caller.answer().body == BODY
        assert spy.one(edge).request_body == HIDDEN


def test_an_answer_before_the_body_was_read(spy):
    with ScriptedUpstream() as upstream:
        found = document(upstream.port)
        found["routes"]["all"] = {"path": "/*", "reply": {"body": "hi"}, "policies": ["evidence", "spy"]}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(post(BODY))
            assert caller.answer().body == b"hi"
            kept = spy.one(edge)
    assert (kept.request_body, kept.request_cut) == (b"", True)
    assert kept.reply_body == b"[not kept: of a type that cannot be redacted]"


def test_a_call_that_is_answered_before_its_body_is_there_is_recorded_with_what_there_is(spy, monkeypatch):
    """It is on record as soon as its reply is complete; log hooks run only when the body has come, or never will."""
    recorded = []
    answered = Pipeline.answered

    def look(pipeline, exchange, now):
        recorded.append(exchange.context.get(CAPTURED))
        answered(pipeline, exchange, now)

    monkeypatch.setattr(Pipeline, "answered", look)
    with ScriptedUpstream() as upstream:
        found = document(upstream.port)
        found["routes"]["all"] = {"path": "/*", "reply": {"body": "hi"}, "policies": ["evidence", "spy"]}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(post(BODY)[:-5])
            assert caller.answer().body == b"hi"
            assert not spy.seen
            caller.send(BODY[-5:])
            kept = spy.one(edge)
    assert recorded == [kept]
    assert kept.request_cut


def test_what_cannot_be_redacted_by_a_mistake_of_ours_is_not_kept(spy, monkeypatch, caplog):
    monkeypatch.setattr(Redaction, "headers", lambda self, pairs: 1 / 0)
    with (
        ScriptedUpstream(echoing) as upstream,
        EdgeThread(document(upstream.port)) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(post(BODY))
        assert caller.answer().body == BODY
        edge.until(lambda: spy.seen)
    assert spy.seen == [(200, None)]
    assert "could not be redacted" in caplog.text


def test_nothing_outlives_the_exchange(spy):
    with (
        ScriptedUpstream(echoing) as upstream,
        EdgeThread(document(upstream.port)) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(post(BODY))
        caller.answer()
        edge.until(lambda: spy.seen)
        gc.collect()
        gc.disable()
        try:
            spy.seen.clear()
            caller.send(post(BODY))
            caller.answer()
            edge.until(lambda: spy.seen)
            edge.until(lambda: not [each for each in gc.get_objects() if isinstance(each, Tap)])
        finally:
            gc.enable()


def test_a_caller_that_leaves_in_the_middle(spy):
    with ScriptedUpstream(Peer.read_to_end) as upstream, EdgeThread(document(upstream.port)) as edge:
        caller = Caller(edge.port)
        caller.send(post(BODY)[:-10])
        upstream.wait_for(lambda: b"name" in upstream.received)
        leave(caller)
        found = spy.one(edge)
        assert spy.seen[0][0] == 499
    assert found.request_body.startswith(b"[not kept: cut off")
    assert found.request_cut


def test_a_reply_that_breaks_off(spy):
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: 100\r\n\r\n" + BODY)

    with ScriptedUpstream(script) as upstream, EdgeThread(document(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        caller.to_end()
        found = spy.one(edge)
    assert found.reply_cut
    assert found.reply_body.startswith(b"[not kept: cut off")


def test_a_tunnel_passes_by(spy):
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        peer.send(b"<" + peer.read(6) + b">")

    with ScriptedUpstream(script) as upstream:
        served = document(upstream.port, route={"upgrades": ["websocket"]})
        with EdgeThread(served) as edge, Caller(edge.port) as caller:
            caller.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\ns3cr3t")
            assert caller.to_end().endswith(b"<s3cr3t>")
            caller.sock.close()
            found = spy.one(edge)
    assert spy.seen[0][0] == 101
    assert (found.request_body, found.reply_body, found.reply_cut) == (b"", b"", False)
    assert b"x-request-id" in dict(found.reply_headers)


@pytest.mark.parametrize("seal", [True, False])
def test_it_goes_into_the_record_and_nowhere_else(spy, tmp_path, seal):
    with ScriptedUpstream(echoing) as upstream:
        found = document(upstream.port)
        found["gateway"] = {"state_dir": str(tmp_path)}
        found["audit"] = {"enabled": True, "seal": seal}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(post(BODY, b"Authorization: Bearer s3cr3t", path=b"/x?token=s3cr3t"))
            assert caller.answer().body == BODY
            kept = spy.one(edge)
    (call,) = calls_in(tmp_path)
    personal = SubjectKeys(tmp_path).open(call.sealed) if seal else call.personal
    assert personal.captured == kept
    written = b"".join(path.read_bytes() for path in (tmp_path / "audit").rglob("*.seg"))
    assert b"s3cr3t" not in written
    assert (b"Ann" in written) is not seal
