"""Fetches on behalf of many: a whole edge, callers that arrive, leave and dawdle."""

from __future__ import annotations

import json
import socket
import threading

import h11
import pytest

from tests.cache.scenes import FRESH, Scene, reply
from tests.support.raw import Caller, leave


def gated(*pieces):
    """An origin whose first reply waits at a gate before each piece but the first; later ones are whole."""
    gates = [threading.Event() for _ in pieces[1:]]
    first = threading.Event()

    def say(asked):
        if first.is_set():
            return b"".join(pieces)
        first.set()
        return [each for gate, piece in zip([None, *gates], pieces, strict=True) for each in (gate, piece) if each]

    return say, gates


def held(whole):
    """An origin that keeps its first reply back until the gate opens."""
    say, (gate,) = gated(b"", whole)
    return say, gate


def joined(scene, count):
    """Wait until so many callers share the one fetch."""
    scene.edge.until(lambda: sum(len(each.waiters) for each in list(scene.kept().flights._running)) == count)


def finish(callers):
    """All their replies; the connections are closed."""
    answers = [caller.answer() for caller in callers]
    for caller in callers:
        caller.sock.close()
    return answers


def test_a_stampede_is_one_request():
    say, gate = held(reply(FRESH, body=b"for all"))
    with Scene(say) as scene:
        callers = scene.callers(50)
        joined(scene, 50)
        gate.set()
        answers = finish(callers)
        assert {answer.body for answer in answers} == {b"for all"}
        assert scene.origin.count == 1
        assert sum("collapsed" in answer.headers["cache-status"] for answer in answers) == 49
        assert len({answer.headers["x-request-id"] for answer in answers}) == 50


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_followers_stream_with_the_leader(framing):
    if framing == "length":
        pieces = [b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 6\r\n\r\nab", b"cd", b"ef"]
    else:
        head = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n"
        pieces = [head + b"2\r\nab\r\n", b"2\r\ncd\r\n", b"2\r\nef\r\n0\r\n\r\n"]
    say, gates = gated(*pieces)
    with Scene(say) as scene:
        leader = scene.callers(1)
        joined(scene, 1)
        scene.edge.until(lambda: scene.kept().flights.buffered == 2)
        followers = scene.callers(2)
        joined(scene, 3)
        for follower in followers:
            rest_of(follower, b"ab")
        gates[0].set()
        scene.edge.until(lambda: scene.kept().flights.buffered == 4)
        gates[1].set()
        assert leader[0].answer().body == b"abcdef"
        for follower in followers:
            rest_of(follower, b"ef")
            follower.sock.close()
        assert scene.get().body == b"abcdef"
        assert scene.origin.count == 1
        assert scene.kept().flights.buffered == 0
        leader[0].sock.close()


def rest_of(caller, end):
    """Bytes until `end` has come."""
    data = bytearray()
    while end not in data[-len(end) - 65_536 :]:
        data += caller.sock.recv(65_536)
    return bytes(data)


def test_a_leader_who_leaves_takes_nobody_along():
    say, gate = held(reply(FRESH))
    with Scene(say) as scene:
        (leader,) = scene.callers(1)
        joined(scene, 1)
        followers = scene.callers(3)
        joined(scene, 4)
        leave(leader)
        joined(scene, 3)
        gate.set()
        assert [answer.status for answer in finish(followers)] == [200] * 3
        assert scene.origin.count == 1


def test_a_fetch_nobody_waits_for_is_given_up_before_its_head():
    say, gate = held(reply(FRESH))
    with Scene(say) as scene:
        callers = scene.callers(2)
        joined(scene, 2)
        for caller in callers:
            leave(caller)
        scene.edge.until(lambda: scene.origin.count == 1 and not scene.kept().flights._running)
        gate.set()
        assert scene.get().status == 200
        assert scene.origin.count == 2


def test_a_reply_that_is_being_stored_is_fetched_to_its_end():
    whole = reply(FRESH, body=b"abcdef")
    say, (gate,) = gated(whole[:-3], whole[-3:])
    with Scene(say) as scene:
        (caller,) = scene.callers(1)
        scene.edge.until(lambda: scene.kept().flights.buffered == 3)
        leave(caller)
        joined(scene, 0)
        gate.set()
        scene.edge.until(lambda: len(scene.kept().store) == 1)
        assert scene.get().body == b"abcdef"
        assert scene.origin.count == 1


def test_what_cannot_be_shared_is_fetched_by_each_and_remembered():
    count = iter(range(1, 1000))
    gate = threading.Event()

    def say(asked):
        number = next(count)
        whole = reply("cache-control: no-store", body=b"%d" % number)
        return [gate, whole] if number == 1 else whole

    with Scene(say) as scene:
        callers = scene.callers(5)
        joined(scene, 5)
        gate.set()
        assert sorted(answer.body for answer in finish(callers)) == [b"1", b"2", b"3", b"4", b"5"]
        gate.clear()
        answer = scene.get()
        assert answer.headers["cache-status"] == "gatewayd; fwd=bypass"
        assert not scene.kept().flights._running


def test_variants_do_not_wait_for_each_other_once_known():
    gates = {"de": threading.Event(), "en": threading.Event()}

    def say(asked):
        language = asked.headers["accept-language"]
        return [gates[language], reply(FRESH, "vary: accept-language", body=language.encode())]

    with Scene(say) as scene:
        german, english = scene.callers(2, "/", "accept-language: de"), scene.callers(2, "/", "accept-language: en")
        joined(scene, 4)
        for gate in gates.values():
            gate.set()
        assert {answer.body for answer in finish(german)} == {b"de"}
        assert {answer.body for answer in finish(english)} == {b"en"}
        assert scene.origin.count == 2


def test_credentials_never_share_by_waiting():
    gate = threading.Event()

    def say(asked):
        return [gate, reply(FRESH, body=asked.headers.get("authorization", "nobody").encode())]

    with Scene(say) as scene:
        callers = [scene.callers(1, "/", f"authorization: {name}")[0] for name in "abc"] + scene.callers(1)
        joined(scene, 4)
        gate.set()
        assert [answer.body for answer in finish(callers)] == [b"a", b"b", b"c", b"nobody"]
        assert scene.get("/").body == b"nobody"
        assert scene.get("/", "authorization: d").body == b"d"


def test_a_target_that_dies_in_its_reply_leaves_nothing():
    whole = reply(FRESH, body=b"abcdef")
    gate, count = threading.Event(), iter(range(9))

    def say(asked):
        return [whole[:-3], gate, lambda peer: peer.close()] if next(count) == 0 else whole

    with Scene(say) as scene:
        callers = scene.callers(3)
        joined(scene, 3)
        scene.edge.until(lambda: scene.kept().flights.buffered == 3)
        gate.set()
        for caller in callers:
            with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
                caller.answer()
            caller.sock.close()
        assert len(scene.kept().store) == 0
        assert scene.kept().flights.buffered == 0
        assert scene.get().body == b"abcdef"


def test_an_error_of_the_gateway_is_everyones():
    gate = threading.Event()
    with Scene(lambda asked: [gate, lambda peer: peer.close()]) as scene:
        callers = scene.callers(3)
        joined(scene, 3)
        gate.set()
        answers = finish(callers)
        assert {(answer.status, answer.code) for answer in answers} == {(502, "closed_before_reply")}
        for answer in answers:
            assert answer.headers["x-request-id"].encode() in answer.body
        assert scene.origin.count == 1


def test_timeouts_of_the_service_hold_for_fetches():
    gate = threading.Event()
    with Scene(lambda asked: [gate, reply(FRESH)], service={"timeouts": {"first_byte": "100ms"}}) as scene:
        assert [answer.status for answer in finish(scene.callers(3))] == [504] * 3
        gate.set()


def test_a_slow_follower_holds_up_nobody():
    size = 900_000
    with Scene(reply(FRESH, body=b"x" * size)) as scene:
        slow = scene.callers(1)
        scene.edge.until(lambda: scene.origin.count == 1)
        assert len(scene.get().body) == size
        assert len(slow[0].answer().body) == size
        slow[0].sock.close()
        assert scene.origin.count == 1


def test_what_is_announced_too_large_is_the_leaders_alone():
    gate = threading.Event()
    body = b"x" * 3000
    with Scene(lambda asked: [gate, reply(FRESH, body=body)], object="1KiB") as scene:
        callers = scene.callers(3)
        joined(scene, 3)
        gate.set()
        assert {answer.body for answer in finish(callers)} == {body}
        assert scene.origin.count == 3
        assert len(scene.kept().store) == 0


def chunked(count, size):
    """A reply of `count` chunks, and where to open the gates between them."""
    head = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (size, b"~" * size)
    return [head + chunk, *[chunk] * (count - 1), b"0\r\n\r\n"]


def test_what_turns_out_too_large_streams_on_to_those_who_began():
    say, gates = gated(*chunked(4, 600))
    with Scene(say, object="1KiB") as scene:
        callers = scene.callers(2)
        joined(scene, 2)
        scene.edge.until(lambda: scene.kept().flights.buffered == 600)
        for gate in gates:
            gate.set()
        assert [len(answer.body) for answer in finish(callers)] == [2400, 2400]
        assert len(scene.kept().store) == 0
        assert scene.kept().flights.buffered == 0
        assert len(scene.get().body) == 2400
        assert scene.origin.count == 2


def test_who_falls_too_far_behind_is_cut_off():
    pieces = chunked(200, 50_000)  # more than the kernel holds for one who does not read
    gate = threading.Event()
    with Scene(lambda asked: [pieces[0], gate, b"".join(pieces[1:])], object="64KiB") as scene:
        slow, quick = scene.callers(1) + scene.callers(1)
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        joined(scene, 2)
        scene.edge.until(lambda: scene.kept().flights.buffered == 50_000)
        gate.set()
        assert rest_of(quick, b"0\r\n\r\n").count(b"~") == 10_000_000
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            slow.answer()
        for caller in (slow, quick):
            caller.sock.close()
        assert scene.kept().flights.buffered == 0


def test_a_caller_who_reads_nothing_stops_what_is_his_alone():
    pieces = chunked(200, 50_000)
    with Scene(lambda asked: b"".join(pieces).replace(b"max-age=60", b"no-store  "), object="64KiB") as scene:
        (caller,) = scene.callers(1)
        scene.edge.until(lambda: scene.kept().flights._running)
        (fetch,) = scene.kept().flights._running
        scene.edge.until(lambda: fetch.waiters[0].slow)
        assert rest_of(caller, b"0\r\n\r\n").count(b"~") == 10_000_000
        caller.sock.close()


def test_interim_replies_reach_all():
    gate = threading.Event()
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    with Scene(lambda asked: [gate, early + reply(FRESH)]) as scene:
        callers = scene.callers(2)
        joined(scene, 2)
        gate.set()
        for caller in callers:
            assert rest_of(caller, b"body").startswith(b"HTTP/1.1 103")
            caller.sock.close()


def test_trailers_reach_those_who_wait():
    head = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n"
    say, (gate,) = gated(head + b"1\r\na\r\n", b"0\r\nx-sum: 7\r\n\r\n")
    with Scene(say) as scene:
        callers = scene.callers(2)
        joined(scene, 2)
        gate.set()
        for caller in callers:
            assert b"x-sum: 7" in rest_of(caller, b"\r\n\r\n0\r\nx-sum: 7\r\n\r\n"[4:])
            caller.sock.close()


def test_an_invalidation_on_the_way_keeps_the_reply_out():
    say, gate = held(reply(FRESH, body=b"old"))
    with Scene(lambda asked: say(asked) if asked.method == "GET" else reply()) as scene:
        callers = scene.callers(1)
        joined(scene, 1)
        scene.get("/", method="POST")
        assert scene.get().body == b"old"  # its own fetch: nobody waits for one that began before
        assert scene.origin.count == 3
        gate.set()
        assert finish(callers)[0].body == b"old"
        assert scene.kept().store.shelves  # the second's


@pytest.mark.parametrize("order", [b'{"kind":"all"}', b'{"kind":"tag","value":"x"}', b'{"kind":"prefix","value":"/"}'])
def test_a_purge_on_the_way_keeps_the_reply_out(order):
    say, gate = held(reply(FRESH, "cache-tag: x"))
    with Scene(say) as scene:
        callers = scene.callers(1)
        joined(scene, 1)
        scene.edge.call(scene.edge.edge.tell, "cache/purge", order)
        gate.set()
        assert finish(callers)[0].status == 200
        assert len(scene.kept().store) == 0


def test_the_log_knows_the_target(tmp_path):
    log = tmp_path / "access.log"
    with Scene(reply(FRESH)) as scene:
        scene.edge.apply({**scene.document(), "access_log": {"path": str(log)}})
        scene.get()
        scene.get()
        scene.edge.call(scene.edge.edge._pipeline.record)
        scene.edge.call(scene.edge.edge._pipeline.access_log.flush)
        miss, hit = (json.loads(line) for line in log.read_text().splitlines())
    assert (miss["target"], miss["attempts"], miss["verdicts"]) == (
        f"127.0.0.1:{scene.origin.port}",
        1,
        {"cache": "miss"},
    )
    assert ("target" in hit, hit["verdicts"]) == (False, {"cache": "hit"})


def test_pipelined_requests_are_answered_in_order():
    with Scene(lambda asked: reply(FRESH, body=asked.target.encode())) as scene, Caller(scene.edge.port) as caller:
        caller.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: test\r\n\r\n" % (n % 3) for n in range(9)))
        assert [caller.answer().body for _ in range(9)] == [b"/%d" % (n % 3) for n in range(9)]
        assert scene.origin.count == 3
