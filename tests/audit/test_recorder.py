"""From exchanges to records: every field, and what becomes of calls that cannot be recorded."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from gatewayd.audit.keys import load_signer
from gatewayd.audit.record import CAPTURED, Captured, Operation, Trace
from gatewayd.audit.record import Caller as RecordedCaller
from gatewayd.audit.recorder import AGENT_LIMIT, UNAVAILABLE, Recorder, encoded
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.config.model import Audit
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Route
from tests.support.exchanges import make_exchange
from tests.support.records import calls_in

NOW, WALL = 1_000.0, 1_800_000_000.0


class Recorded:
    """A recorder in a folder, its clock, and what it has written."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.clock = FakeClock(NOW, WALL)
        self.recorder = Recorder(Audit(enabled=True, **options), folder, load_signer(folder), self.clock)

    def __call__(self, *exchanges, now=NOW + 0.25):
        async def commit():
            self.recorder.ended += [(exchange, now) for exchange in exchanges]
            self.recorder.commit()

        asyncio.run(commit())

    @property
    def calls(self):
        return calls_in(self.folder)

    @property
    def personal(self):
        keys = SubjectKeys(self.folder)
        return [keys.open(call.sealed) if call.sealed else call.personal for call in self.calls]


@pytest.fixture
def recorded(tmp_path):
    return Recorded(tmp_path)


class Tls:
    """As `wire.tls.TlsFacts`; the cipher is asked for once."""

    version, client_fingerprint, recorded = "TLSv1.3", b"\xab" * 32, None
    asked = 0

    @property
    def cipher(self):
        self.asked += 1
        return "TLS_AES_128_GCM_SHA256"


def route(template="/v1/policies/{id}"):
    found = Route("policies", lambda exchange: None)
    found.operation = encoded(Operation("policies", "backend", template, ["id"], 3))
    return found


def test_a_call_is_recorded_as_a_whole(recorded):
    consumer = Consumer("anna", plan="gold", labels={"tenant": "north"})
    exchange = make_exchange(
        [(b"accept", b"*/*"), (b"user-agent", b"curl/8")],
        route=route(),
        identity=Identity(consumer, "api_key", "key-1"),
        tls=Tls(),
        trace=Trace("a" * 32, "b" * 16, "c" * 16, True, "x=1"),
        params={"id": b"POL-1"},
        started=NOW,
        status=502,
        code="connect_failed",
        reason="connect_refused",
        verdicts=[("pace", "observed")],
        target="127.0.0.1:9000",
        attempts=2,
        upstream_seconds=0.125,
        body_received=10,
        body_sent=20,
        listener="http",
        peer="10.0.0.1",
        context={CAPTURED: Captured([(b"accept", b"*/*")], b"body")},
    )
    recorded(exchange)
    (call,) = recorded.calls
    assert call.at == WALL * 1e9
    assert (call.request_id, call.method, call.status) == (b"0123456789abcdef", b"GET", 502)
    assert call.operation == Operation("policies", "backend", "/v1/policies/{id}", ["id"], 3)
    assert call.caller == RecordedCaller("anna", "key-1", "api_key", "gold", "north")
    assert (call.code, call.reason, call.verdicts) == ("connect_failed", "connect_refused", [("pace", "observed")])
    assert (call.target, call.attempts, call.total, call.upstream) == ("127.0.0.1:9000", 2, 250_000, 125_000)
    assert (call.bytes_in, call.bytes_out) == (10, 20)
    assert (call.listener, call.scheme, call.host, call.http_version) == ("http", b"https", b"api.example.com", b"1.1")
    assert call.tls.fingerprint == "ab" * 32
    assert call.trace == Trace("a" * 32, "b" * 16, "c" * 16, True, "x=1")
    assert call.personal is None
    (personal,) = recorded.personal
    assert (personal.client, personal.peer, personal.agent) == ("192.0.2.1", "10.0.0.1", "curl/8")
    assert len(personal.values[0]) == 8
    assert personal.captured == Captured([(b"accept", b"*/*")], b"body")


def test_nothing_of_a_person_is_legible_on_the_disk(recorded):
    recorded(make_exchange([(b"user-agent", b"curl/8")], route=route(), params={"id": b"POL-1"}, peer="10.0.0.1"))
    written = b"".join(path.read_bytes() for path in recorded.folder.glob("audit/calls-0/*.seg"))
    assert written
    for told in (b"192.0.2.1", b"10.0.0.1", b"curl", b"POL-1"):
        assert told not in written


def test_unsealed_if_so_configured_and_addresses_as_configured(tmp_path):
    recorded = Recorded(tmp_path, seal=False, addresses="masked")
    recorded(make_exchange(peer="2001:db8:1:2::3"))
    (call,) = recorded.calls
    assert call.sealed is None
    assert (call.personal.client, call.personal.peer) == ("192.0.2.0/24", "2001:db8:1::/48")


def test_a_call_that_met_no_route_and_nobody_known(recorded):
    recorded.recorder.configure(Audit(enabled=True), 5)
    recorded(make_exchange(status=404, code="route_not_found", started=NOW))
    (call,) = recorded.calls
    assert call.operation == Operation(generation=5)
    assert (call.caller, call.tls, call.trace, call.verdicts) == (None, None, None, None)


def test_the_same_value_has_the_same_pseudonym(recorded):
    recorded(*(make_exchange(route=route(), params={"id": value}) for value in (b"1", b"2", b"1")))
    one, other, again = (personal.values[0] for personal in recorded.personal)
    assert one == again != other


def test_facts_of_a_connection_are_worked_out_once(recorded):
    tls = Tls()
    recorded(make_exchange(tls=tls), make_exchange(tls=tls))
    assert tls.asked == 1
    assert [call.tls.cipher for call in recorded.calls] == ["TLS_AES_128_GCM_SHA256"] * 2


def test_odd_bytes_are_recorded(recorded):
    recorded(make_exchange([(b"user-agent", b"\xff" * 1000)], host=b"\xff", method=b"\xfe"))
    assert recorded.calls[0].host == b"\xff"
    assert recorded.personal[0].agent == "\xff" * AGENT_LIMIT


def test_a_record_that_cannot_be_made_is_counted_and_the_others_are_made(recorded, caplog):
    recorded(make_exchange(), make_exchange(code=object()), make_exchange())
    assert len(recorded.calls) == 2
    assert recorded.recorder.spool.dropped == 1
    assert "could not be recorded" in caplog.text


def test_heads_are_signed_soon_and_once(recorded, monkeypatch):
    commits = []
    monkeypatch.setattr(recorded.recorder.spool, "commit", lambda: commits.append(1))

    async def run():
        recorder = recorded.recorder
        armed = []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *job: armed.append(job) or job)
        for _ in range(3):
            recorder.ended.append((make_exchange(), NOW))
            recorder.commit()
        assert [after for after, _ in armed] == [0.1]
        armed[0][1]()
        recorder.ended.append((make_exchange(), NOW))
        recorder.commit()
        assert len(armed) == 2

    asyncio.run(run())
    assert commits == [1]


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Refusing:
    """A downstream that is only ever broken off."""

    aborted = False

    def abort(self):
        self.aborted = True


@pytest.mark.parametrize(
    ("mode", "on_full", "refusal", "aborted"),
    [
        ("batched", "refuse", UNAVAILABLE, False),
        ("batched", "drop", None, False),
        ("strict", "refuse", UNAVAILABLE, True),
        ("strict", "drop", None, False),
    ],
)
def test_a_disk_that_is_full(tmp_path, monkeypatch, mode, on_full, refusal, aborted):
    recorded = Recorded(tmp_path, mode=mode, on_full=on_full)
    downstream = Refusing()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        recorded(make_exchange(downstream=downstream))
        assert recorded.recorder.refusal is refusal
        assert downstream.aborted is aborted
        recorded.recorder.tick(NOW)
        assert recorded.recorder.refusal is refusal
    recorded.recorder.tick(NOW)
    assert recorded.recorder.refusal is None
    assert len(recorded.calls) == 1


def test_what_has_ended_is_recorded_at_the_end(recorded):
    recorded.recorder.ended.append((make_exchange(), NOW))
    asyncio.run(asyncio.sleep(0))

    async def close():
        recorded.recorder.close()

    asyncio.run(close())
    assert len(recorded.calls) == 1
