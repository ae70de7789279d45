"""The recorder of a generation: opened, kept, changed, closed; and on whole edges, what is on record when."""

from __future__ import annotations

import asyncio
import socket
import threading

import msgspec
import pytest

from gatewayd.audit.segments import chains
from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from gatewayd.errors import ConfigError
from gatewayd.gateway.pipeline import Pipeline
from gatewayd.gateway.recording import Recording, faults
from gatewayd.observe import metrics
from gatewayd.observe.metrics import AUDIT_DROPPED, AUDIT_FULL, AUDIT_WRITTEN, WorkerMetrics
from gatewayd.wire.outbox import Outbox
from tests.support.edge import EdgeThread, proxied
from tests.support.exchanges import make_exchange
from tests.support.raw import Caller
from tests.support.records import calls_in
from tests.support.upstream import Peer, ScriptedUpstream, answer


def document(state, **audit):
    return decode({"gateway": {"state_dir": str(state)}, "audit": {"enabled": True, **audit}})


class Worker:
    """What a recording stands in."""

    def __init__(self):
        self.outbox = Outbox()
        self.memory = memoryview(bytearray(metrics.size_bytes(1)))
        self.metrics = WorkerMetrics(self.memory, 0)
        self.recording = Recording(FakeClock(), self.outbox, self.metrics)
        self.pipeline = Pipeline(None, self.metrics, None)

    def apply(self, document, generation=1):
        recorder = self.recording.open(document)
        self.recording.serve(recorder, document, generation, self.pipeline)
        return recorder

    def count(self, counter):
        return metrics.read(self.memory, {}, [0]).sum(counter)


def test_without_audit_nothing_is_made(tmp_path):
    worker = Worker()
    off = decode({"gateway": {"state_dir": str(tmp_path / "state")}})
    assert worker.apply(off) is None
    worker.recording.tick(0.0)
    worker.recording.close()
    assert worker.outbox.before is None
    assert not (tmp_path / "state").exists()
    assert faults(off) == []


def test_a_recorder_stays_over_reloads_and_goes_by_the_new_options(tmp_path):
    worker = Worker()
    first = worker.apply(document(tmp_path))
    assert worker.apply(document(tmp_path, mode="strict"), 2) is first
    assert first.spool.config.mode == "strict"
    assert worker.pipeline.recorder is first
    assert worker.outbox.before == first.commit
    worker.recording.close()
    assert worker.outbox.before is None


def test_another_state_directory_has_chains_of_its_own(tmp_path):
    worker = Worker()
    first = worker.apply(document(tmp_path / "a"))
    second = worker.apply(document(tmp_path / "b"))
    assert second is not first
    assert [path.name for path in chains(tmp_path / "b")] == ["calls-0"]
    again = Worker().apply(document(tmp_path / "a"))
    assert again.spool.name == "calls-0"  # the first has let go of it


def test_a_folder_that_cannot_be_used_is_a_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"audit\.enabled"):
        Worker().apply(document(tmp_path / "file"))
    (tmp_path / "state" / "audit").mkdir(parents=True)
    (tmp_path / "state" / "audit" / "signing.key").write_text("no key")
    with pytest.raises(ConfigError, match="is no private key"):
        Worker().apply(document(tmp_path / "state"))


def test_what_is_written_and_dropped_is_counted(tmp_path):
    worker = Worker()
    recorder = worker.apply(document(tmp_path))

    async def record():
        recorder.ended += [(make_exchange(), 1.0), (make_exchange(code=object()), 1.0)]
        worker.recording.tick(0.0)
        worker.recording.tick(0.0)

    asyncio.run(record())
    assert [worker.count(each) for each in (AUDIT_WRITTEN, AUDIT_DROPPED, AUDIT_FULL)] == [1, 1, 0]


# -- on whole edges: the record is there when the caller has its reply ------------------------------------------------


def recorded(state, document):
    """A document whose calls are recorded in `state`."""
    gateway = {**document.get("gateway", {}), "state_dir": str(state)}
    return EdgeThread({**document, "gateway": gateway, "audit": {"enabled": True}})


def statuses(state):
    return [call.status for call in calls_in(state)]


SAYING = {"routes": {"all": {"path": "/*", "methods": ["GET", "HEAD", "POST"], "reply": {"body": "hello"}}}}
BIG = b"x" * 3_000_000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        (b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        (b"DELETE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", 200),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 30000\r\n\r\nabc", 200),  # never sent
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 200),  # nor this
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_whatever_is_answered_is_on_record_by_then(tmp_path, request_bytes, status):
    with recorded(tmp_path, SAYING) as edge, Caller(edge.port) as caller:
        caller.send(request_bytes)
        answer = caller.answer("HEAD" if request_bytes.startswith(b"HEAD") else "GET")
        found = calls_in(tmp_path)
        assert [call.status for call in found] == [answer.status] == [status]
        assert found[0].request_id.decode() == answer.headers["x-request-id"]
        caller.sock.close()
    assert statuses(tmp_path) == [status]  # and only once


REPLIES = {
    "whole": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "long": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BIG), BIG),
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BIG), BIG),
    "none": b"HTTP/1.1 304 Not Modified\r\n\r\n",
}


@pytest.mark.parametrize("kind", REPLIES)
def test_a_proxied_reply_is_on_record_when_its_last_byte_is_there(tmp_path, kind):
    with (
        ScriptedUpstream(answer(REPLIES[kind])) as up,
        recorded(tmp_path, proxied(up.port)) as edge,
        Caller(edge.port) as caller,
    ):
        for number in range(1, 4):
            reply = caller.ask()
            found = calls_in(tmp_path)
            assert len(found) == number
            assert (found[-1].status, found[-1].bytes_out) == (reply.status, len(reply.body))
            assert (found[-1].attempts, found[-1].target) == (1, f"127.0.0.1:{up.port}")


def test_a_tunnel_is_on_record_when_it_opens(tmp_path):
    def script(peer: Peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        peer.send(peer.read(4))

    with ScriptedUpstream(script) as up, recorded(tmp_path, proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert caller.sock.recv(12) == b"HTTP/1.1 101"
        assert statuses(tmp_path) == [101]
        caller.send(b"ping")
        while not caller.sock.recv(4096).endswith(b"ping"):
            pass
    assert statuses(tmp_path) == [101]


def test_a_caller_that_leaves_is_on_record_soon(tmp_path):
    gone = threading.Event()

    def script(peer: Peer):
        peer.read_head()
        gone.wait(20)

    with ScriptedUpstream(script) as up, recorded(tmp_path, proxied(up.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            up.wait_for(lambda: bool(up.received))
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        edge.until(lambda: statuses(tmp_path) == [499])
        gone.set()


def test_while_nothing_can_be_recorded_calls_are_refused(tmp_path):
    with recorded(tmp_path, SAYING) as edge, Caller(edge.port) as caller:
        spool = edge.edge._recording._recorder.spool
        assert caller.ask().status == 200

        def set_limit(limit):
            spool.config = msgspec.structs.replace(spool.config, limit=limit)
            spool._measured = -1e9
            edge.edge._recording.tick(0.0)

        edge.call(set_limit, 1)
        answer = caller.ask()
        assert (answer.status, answer.code) == (503, "audit_unavailable")
        assert answer.headers["retry-after"] == "5"
        edge.call(set_limit, 0)
        assert caller.ask().status == 200
    assert statuses(tmp_path) == [200, 200]
    assert spool.records == 3  # the chain tells of a gap of one


def test_routes_of_a_generation_say_so_in_their_calls(tmp_path):
    with recorded(tmp_path, SAYING) as edge, Caller(edge.port) as caller:
        caller.ask()
        edge.apply({**edge.document, "routes": {"one": {"path": "/v1/{id}/{rest*}", "reply": {}}}})
        caller.ask("/v1/7/a/b")
        caller.ask("/nowhere")
    operations = [call.operation for call in calls_in(tmp_path)]
    assert [each.generation for each in operations] == [1, 2, 2]
    assert [each.route for each in operations] == ["all", "one", ""]
    assert operations[1].template == "/v1/{id}/{rest*}"
    assert operations[1].parameters == ["id", "rest"]


def test_reloads_switch_records_off_and_on(tmp_path):
    with recorded(tmp_path, SAYING) as edge, Caller(edge.port) as caller:
        caller.ask()
        edge.apply({**edge.document, "audit": {"enabled": False}})
        caller.ask()
        edge.apply({**edge.document, "audit": {"enabled": True}})
        caller.ask()
    assert statuses(tmp_path) == [200, 200]
