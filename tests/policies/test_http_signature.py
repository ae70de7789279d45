"""http_signature on a whole edge: signed requests pass once, as they were signed, and to the byte."""

from __future__ import annotations

import pytest

from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.policies import http_signature
from gatewayd.policies.http_signature import Config
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.signing import SECRET, digest, sign
from tests.support.upstream import ScriptedUpstream

NOW = 1_800_000_000


def document(port, **options):
    made = proxied(port)
    made["routes"]["all"]["policies"] = ["http_signature"]
    made["policies"] = {"http_signature": options}
    key = {"keyid": "acme-1", "algorithm": "hmac-sha256", "key": SECRET}
    made["consumers"] = {"acme": {"signatures": [key]}}
    return made


def values(method="GET", path="/x", query="?", **more):
    return {"@method": method, "@authority": "test", "@path": path, "@query": query, **more}


def lines(fields):
    return [f"{name.decode()}: {value.decode()}" for name, value in fields]


@pytest.fixture
def gate():
    """A caller of an edge that asks for signatures, and the upstream behind."""

    def script(peer):
        while head := peer.read_head():
            peer.read(5 if b"content-length: 5" in head else 0)
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    with (
        ScriptedUpstream(script) as upstream,
        EdgeThread(document(upstream.port), FakeClock(wall=NOW)) as edge,
        Caller(edge.port) as caller,
    ):
        yield caller, upstream


def test_a_signed_request_passes_once_and_its_signature_goes_no_further(gate):
    caller, upstream = gate
    fields = lines(sign(values(), NOW, "n1"))
    assert caller.ask("/x", *fields).status == 200
    assert b"signature" not in upstream.received
    again = caller.ask("/x", *fields)
    assert (again.status, again.code) == (401, "credential_invalid")
    assert again.headers["www-authenticate"] == 'Signature realm="gatewayd"'


def test_without_a_signature(gate):
    caller, upstream = gate
    answer = caller.ask("/x")
    assert (answer.status, answer.code) == (401, "credential_missing")
    assert answer.headers["www-authenticate"] == 'Signature realm="gatewayd"'
    assert upstream.received == b""


@pytest.mark.parametrize(
    ("path", "method", "more"),
    [
        ("/y", "GET", ()),
        ("/x?a=1", "GET", ()),
        ("/x", "DELETE", ()),
        ("/x/../y", "GET", ()),
        ("/x", "GET", ("signature: sig1=:AAAA:",)),
        ("/x", "GET", ('signature-input: sig2=();created=1;keyid="acme-1"',)),
    ],
)
def test_another_request_than_the_signed_one(gate, path, method, more):
    caller, upstream = gate
    assert caller.ask(path, *lines(sign(values(), NOW, "n1")), *more, method=method).code == "credential_invalid"
    assert upstream.received == b""


def test_a_method_override_is_not_signed_and_goes_no_further(gate):
    caller, upstream = gate
    overrides = ("X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE")
    assert caller.ask("/x", *lines(sign(values("POST"), NOW, "n1")), *overrides, method="POST").status == 200
    assert b"DELETE" not in upstream.received


def test_the_path_is_signed_in_its_one_spelling(gate):
    caller, upstream = gate
    assert caller.ask("/%7Ex", *lines(sign(values(path="/~x"), NOW, "n1"))).status == 200
    assert caller.ask("/%7Ex", *lines(sign(values(path="/%7Ex"), NOW, "n2"))).status == 401
    assert upstream.received.count(b"GET /~x ") == 1


def test_a_body_reaches_the_target_only_as_it_was_signed(gate):
    caller, upstream = gate
    said = digest(b"hello")
    for nonce, body, status in (("n1", b"hello", 200), ("n2", b"hellO", 401)):
        fields = lines(sign(values("POST", **{"content-digest": said}), NOW, nonce))
        head = ["POST /x HTTP/1.1", "host: test", "content-length: 5", f"content-digest: {said}", *fields, "", ""]
        caller.send("\r\n".join(head).encode() + body)
        assert caller.answer("POST").status == status
    assert b"hellO" not in upstream.received
    assert upstream.received.count(b"hello") == 1


@pytest.mark.parametrize(("mode", "status"), [("observe", 200), ("enforce", 413)])
def test_who_observes_refuses_no_large_body(mode, status):
    said = digest(b"hello" * 3)

    def script(peer):
        peer.read_until(b"0\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    with (
        ScriptedUpstream(script) as upstream,
        EdgeThread(document(upstream.port, mode=mode, largest_body=9), FakeClock(wall=NOW)) as edge,
        Caller(edge.port) as caller,
    ):
        fields = lines(sign(values("POST", **{"content-digest": said}), NOW, "n1"))
        head = ["POST /x HTTP/1.1", "host: test", "transfer-encoding: chunked", f"content-digest: {said}", *fields]
        caller.send("\r\n".join([*head, "", ""]).encode() + b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n")
        assert caller.answer("POST").status == status
        assert upstream.received.count(b"hello") == (3 if mode == "observe" else 0)


def test_hooks_say_what_they_ask():
    hooks = http_signature.build(Config(), BuildContext("sig", document=decode({})))
    assert hooks.explain == "signed: @method @authority @path @query content-digest"
    assert hooks.challenges == (b'Signature realm="gatewayd"',)
    assert http_signature.build(Config(components=["date"], digest=False), BuildContext()).explain == "signed: date"
