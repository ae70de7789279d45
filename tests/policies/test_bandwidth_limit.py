"""bandwidth_limit: bodies at a pace, whatever answers, and nothing gathered meanwhile."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gatewayd.config.units import Rate, Size
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import bandwidth_limit
from gatewayd.policies.bandwidth_limit import Config
from tests.support.daemon import pace
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import Peer, ScriptedUpstream

BODY = hashlib.shake_128(b"body").digest(300_000)


def document(upstream: ScriptedUpstream, **options: Any) -> dict[str, Any]:
    found = proxied(upstream.port)
    found["routes"]["all"]["policies"] = ["paced"]
    return {**found, "policies": {"paced": {"policy": "bandwidth_limit", **options}}}


def replying(head: bytes, body: bytes) -> Any:
    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)

    return script


PLAIN = replying(b"content-length: %d\r\n" % len(BODY), BODY)
CHUNKED = replying(b"transfer-encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))


def receive(peer: Peer) -> None:
    """Tells the digest of what was sent."""
    while peer.read_head():
        found = peer.read(len(BODY))
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n" + hashlib.sha256(found).hexdigest().encode())


@pytest.mark.parametrize("script", [PLAIN, CHUNKED], ids=["length", "chunked"])
def test_a_reply_comes_at_its_pace_and_whole(script):
    with ScriptedUpstream(script) as upstream:
        options = {"reply": "1MB/s", "burst": "50KB"}
        with EdgeThread(document(upstream, **options)) as edge, Caller(edge.port) as caller:
            began = edge.call(edge.edge._clock.monotonic)
            reply = caller.ask()
            passed = edge.call(edge.edge._clock.monotonic) - began
            again = caller.ask("/", method="HEAD")
    assert reply.body == BODY
    assert passed > (len(BODY) - 100_000) / 1_000_000  # the least: a burst and a tick go at any speed
    assert again.status == 200


def test_a_reply_of_the_gateway_s_own_is_paced_too():
    with ScriptedUpstream() as upstream:
        found = document(upstream, reply="1MB/s", burst="10KB")
        found["routes"]["all"] = {"path": "/*", "reply": {"body": "a" * 200_000}, "policies": ["paced"]}
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
            assert [len(caller.answer().body) for _ in range(2)] == [200_000] * 2


def test_a_request_goes_at_its_pace_and_whole():
    with ScriptedUpstream(receive) as upstream:
        options = {"request": "1MB/s", "burst": "50KB"}
        with EdgeThread(document(upstream, **options)) as edge, Caller(edge.port) as caller:
            began = edge.call(edge.edge._clock.monotonic)
            for _ in range(2):
                caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
                assert caller.answer().body == hashlib.sha256(BODY).hexdigest().encode()
            passed = edge.call(edge.edge._clock.monotonic) - began
    assert passed > (2 * len(BODY) - 400_000) / 1_000_000  # a burst, a tick and one read go at any speed


def test_a_target_that_brings_more_is_paused():
    """It cannot get rid of 64 MB while its caller gets 1 KB a second."""
    sent = []

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n")
        peer.sock.settimeout(0.5)
        try:
            while len(sent) < 64:
                peer.sock.sendall(bytes(1 << 20))
                sent.append(1)
        except OSError:
            return

    with ScriptedUpstream(script) as upstream:
        found = document(upstream, reply="1KB/s", burst="1KB")
        with EdgeThread(found) as edge, Caller(edge.port) as caller:
            caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            upstream.wait_for(lambda: upstream.peers and not upstream._threads[0].is_alive())
            assert len(sent) < 16  # what the kernel's queues hold
            assert caller.sock.recv(10)


def test_a_caller_that_leaves_leaves_nothing_behind():
    with ScriptedUpstream(PLAIN) as upstream, EdgeThread(document(upstream, reply="10KB/s")) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert caller.sock.recv(100)
        edge.until(lambda: edge.call(lambda: edge.edge.connections) == 0)
        pace(0.2)  # two ticks: a timer left behind would speak up
        assert edge.call(lambda: [target.pool.open for target in edge.edge._upstreams["up"].targets]) == [0]


def test_a_reload_brings_another_pace_to_connections_there_are():
    with (
        ScriptedUpstream(PLAIN) as upstream,
        EdgeThread(document(upstream, reply="5MB/s")) as edge,
        Caller(edge.port) as caller,
    ):
        assert caller.ask().body == BODY
        edge.apply(document(upstream, reply="20MB/s"))
        assert caller.ask().body == BODY
        (connection,) = next(iter(edge.edge._listeners.values())).connections
        assert connection.kept["paced"].reply.rate == 20_000_000


def test_who_observes_paces_nobody():
    with (
        ScriptedUpstream(PLAIN) as upstream,
        EdgeThread(document(upstream, reply="1KB/s", mode="observe")) as edge,
        Caller(edge.port) as caller,
    ):
        assert caller.ask().body == BODY


def test_without_any_limit_it_is_a_mistake():
    with pytest.raises(ConfigError):
        bandwidth_limit.build(Config(), BuildContext("paced"))


def test_explain():
    config = Config(request=Rate.parse("512KiB/s"), reply=Rate.parse("1MB/s"), burst=Size(4096))
    said = bandwidth_limit.build(config, BuildContext("paced")).explain
    assert said == "request 524288 B/s, reply 1000000 B/s, after 4KiB"
