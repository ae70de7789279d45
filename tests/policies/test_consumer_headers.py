"""consumer_headers: what targets are told, and that no caller can tell them the same."""

from __future__ import annotations

import pytest

from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError
from gatewayd.policies import consumer_headers
from gatewayd.policies.consumer_headers import REMEMBERED, Config
from tests.support.callers import known
from tests.support.edge import EdgeThread, proxied
from tests.support.exchanges import make_exchange
from tests.support.policies import install, policy
from tests.support.raw import Caller
from tests.support.upstream import ScriptedUpstream

ALICE = known("alice", name="Alice Ä", groups=["staff", "a,b"], plan="gold", credential="key-7")


def told(identity, headers=(), **options):
    exchange = make_exchange([*headers], identity=identity)
    assert consumer_headers.build(Config(**options), BuildContext("c")).access(exchange) is None
    return exchange.headers


def test_who_calls_is_told():
    assert told(ALICE, [(b"accept", b"*/*")]) == [
        (b"accept", b"*/*"),
        (b"x-consumer-id", b"alice"),
        (b"x-consumer-name", b"Alice %C3%84"),
        (b"x-consumer-groups", b"a%2Cb,staff"),
        (b"x-consumer-plan", b"gold"),
        (b"x-credential-id", b"key-7"),
    ]


def test_what_there_is_none_of_is_not_sent():
    assert told(known("bob")) == [(b"x-consumer-id", b"bob")]
    assert told(None) == []


def test_names_are_options_and_callers_copies_of_other_names_go():
    options = {"id": "X-User", "name": "", "groups": "", "plan": "", "credential": "X-Consumer-Key"}
    forged = [(b"x-user", b"root"), (b"accept", b"*/*"), (b"x-user", b"alice")]
    assert told(ALICE, forged, **options) == [
        (b"accept", b"*/*"),
        (b"x-user", b"alice"),
        (b"x-consumer-key", b"key-7"),
    ]
    assert told(None, forged, **options) == [(b"accept", b"*/*")]


def test_fields_are_made_anew_when_the_consumer_changes():
    access = consumer_headers.build(Config(), BuildContext("c")).access
    for name in ("Alice", "Alice", "Alicia"):
        exchange = make_exchange(identity=known("alice", name=name))
        access(exchange)
        assert dict(exchange.headers)[b"x-consumer-name"] == name.encode()


def test_what_is_kept_ready_is_bounded():
    ready = {}
    access = consumer_headers._teller({"id": b"x-consumer-id"}, ready)
    for number in range(REMEMBERED + 10):
        access(make_exchange(identity=known(f"c{number}")))
    assert len(ready) == REMEMBERED


def test_an_exchange_cannot_spoil_what_is_kept_for_the_next():
    access = consumer_headers.build(Config(), BuildContext("c")).access
    first = make_exchange(identity=ALICE)
    access(first)
    first.headers.clear()
    second = make_exchange(identity=ALICE)
    access(second)
    assert len(second.headers) == 5


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"id": "Host", "name": "X_Name"}, ["id", "name"]),
        ({"id": "X-Consumer", "name": "x-consumer"}, ["id"]),
        (dict.fromkeys(Config.__struct_fields__, ""), ["id"]),
    ],
)
def test_wrong_options(options, paths):
    with pytest.raises(ConfigError) as caught:
        consumer_headers.build(Config(**options), BuildContext("c"))
    assert [fault.path for fault in caught.value.faults] == paths


FORGERIES = [
    "X-Consumer-Id: root",
    "x-consumer-id: root",
    "X-Consumer-Id: root\r\nX-Consumer-Id: root2",
    "X_Consumer_Id: root",
    "X-Consumer_Id: root",
    "x_consumer-groups: root",
    "X-Consumer-Anything: root",
    "X-Credential-Id: root",
    "X_Credential_Id: root",
    "X-Gateway-Token: root",
    "Connection: x-consumer-id\r\nX-Consumer-Id: root",
]


def marked(monkeypatch, *names):
    """Policies that find out who calls without asking, and `consumer_headers`."""
    identify = Hooks(access=lambda exchange: setattr(exchange, "identity", ALICE))
    install(monkeypatch, who=policy(identify), consumer_headers=consumer_headers)
    return {"policies": {name: {} for name in names}, "gateway": {"policies": list(names)}}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("attached", [(), ("consumer_headers",), ("who", "consumer_headers")])
def test_no_forgery_reaches_a_target(monkeypatch, forgery, attached):
    more = marked(monkeypatch, *attached)
    with ScriptedUpstream() as upstream, EdgeThread({**proxied(upstream.port), **more}) as edge:
        with Caller(edge.port) as caller:
            assert caller.ask("/", *forgery.split("\r\n")).status == 200
        sent = upstream.received.lower()
        assert b"root" not in sent
        assert sent.count(b"x-consumer-id: alice") == ("who" in attached)


def test_no_forgery_reaches_a_target_in_a_trailer(monkeypatch):
    def script(peer):
        peer.read_head()
        peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    request = (
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b"1\r\nx\r\n0\r\nX-Consumer-Id: root\r\nX-Credential-Id: root\r\nX-Harmless: yes\r\n\r\n"
    )
    with ScriptedUpstream(script) as upstream, EdgeThread(proxied(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(request)
        assert caller.answer("POST").status == 200
        assert b"root" not in upstream.received
        assert b"x-harmless: yes" in upstream.received
