from __future__ import annotations

import shutil
import socket
import ssl
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.collect.sinks.syslog import Sink, severity
from gatewayd.config.sinks import SyslogSink
from gatewayd.config.units import Duration, Size

from ...wire.certificates import Authority
from .recorded import ORIGIN, names, opened, put
from .running import Waits, ran
from .syslog_receiver import Datagrams, Stream, read


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def sink(address, **options):
    return Sink(SyslogSink(address=address, **options), ORIGIN)


def records(messages):
    return [message.record for message in messages]


def test_a_message(store):
    put(store, code='a "b" \\ [c]', client="192.0.2.7")
    receiver = Stream()
    target = sink(receiver.address, hostname="edge", app_name="gw", data_id="call@4711", facility="authpriv")
    assert ran(target, store, beside=receiver).sent == 1
    (message,) = receiver.messages
    assert message[:6] == (10 * 8 + 6, "2026-03-01T12:00:00.000001Z", "edge", "gw", "call", "call@4711")
    assert message.text == "GET /v1/quotes/{id} 200"
    assert message.data["code"] == 'a "b" \\ [c]'
    assert (message.data["instance"], message.data["gateway"], message.record) == (*ORIGIN, ("calls-0", 1))
    assert (message.data["sampled"], message.data["total_us"]) == ("true", "1500")
    assert not message.data.keys() & {"client", "agent", "reason", "at"}  # personal; empty; said in the header


def test_what_was_asked_for_alone(store):
    put(store, agent="x")
    receiver = Stream()
    ran(sink(receiver.address, fields=["agent", "route"], personal=True), store, beside=receiver)
    (message,) = receiver.messages
    assert message.data.keys() == {"instance", "gateway", "chain", "number", "route", "agent"}
    assert message.text == "call"
    assert message.host == socket.gethostname()


@pytest.mark.parametrize(("status", "level"), [(200, 6), (304, 6), (404, 4), (499, 5), (500, 3), (503, 3)])
def test_severity(status, level):
    assert severity(status) == level


ROW = st.fixed_dictionaries({"code": st.text(max_size=300), "route": st.text(max_size=300)})


@given(ROW, st.sampled_from([300, 480, 8192]))
def test_any_values_make_a_message(values, most):
    target = sink("127.0.0.1:1", fields=["code", "route"], max_message=Size(most))
    row = [200, "2026-03-01T12:00:00.000001Z", "i" * 16, "edge", "calls-0", 7, values["route"], values["code"]]
    message = target.message(row)
    assert len(message) <= most
    found = read(message)
    assert found.record == ("calls-0", 7)
    for name, value in values.items():
        told = "".join(each if each >= " " and each != "\x7f" else "�" for each in value)
        assert found.data.get(name, "") == told or (most < 8192 and told.startswith(found.data.get(name, "")))


def test_a_message_that_cannot_be_cut_enough_is_left_out(store):
    put(store, 2)
    put(store, 1, chain="c" * 300)
    receiver = Stream()
    runner = ran(sink(receiver.address, max_message=Size(300)), store, beside=receiver)
    assert (runner.sent, runner.refused) == (2, 1)
    assert records(receiver.messages) == names(2)


@pytest.mark.parametrize("path", ["", "/s"])
def test_datagrams(store, tmp_path, path):
    put(store, 100)
    receiver = Datagrams(path and str(tmp_path) + path)
    taken = []

    class Taking(Waits):
        async def __call__(self, seconds):
            taken.extend(receiver.messages())
            return await super().__call__(seconds)

    # A unix socket holds a few messages only, and makes the sender wait.
    config = SyslogSink(address=receiver.address, transport="udp", batch=9 if path else 5000)
    target = Sink(config, ORIGIN)
    sending = target.send

    async def send(batch):
        try:
            return await sending(batch)
        finally:
            taken.extend(receiver.messages())

    target.send = send
    ran(target, store, config, Taking())
    receiver.close()
    assert records(taken) == names(100)


def test_datagrams_to_nobody(store, tmp_path):
    put(store, 2)
    receiver = Datagrams(str(tmp_path / "s"))
    receiver.close()
    runner = ran(sink(receiver.address, transport="udp"), store)
    assert (runner.sent, runner.failures) == (0, 1)


def test_a_datagram_larger_than_there_are(store):
    put(store, 1, code="x" * 70_000)
    put(store, 2)
    receiver = Datagrams()
    config = SyslogSink(address=receiver.address, transport="udp", max_message=Size(100_000))
    runner = ran(Sink(config, ORIGIN), store, config)
    assert (runner.sent, runner.refused) == (2, 1)
    assert set(records(receiver.messages())) == set(names(2, first=2))
    receiver.close()


def test_a_stream_over_a_unix_socket(store, tmp_path):
    put(store, 20)
    receiver = Stream(str(tmp_path / "s"))
    ran(sink(receiver.address), store, beside=receiver)
    assert records(receiver.messages) == names(20)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def tls(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    pair = authority.issue("logs.example")
    context.load_cert_chain(pair.cert, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_certificates_on_both_sides(store, authority):
    put(store, 2000)
    ours = authority.issue("gateway.example", client=True)
    options = {"ca": authority.file, "cert": ours.cert, "key": ours.key, "server_name": "logs.example"}
    receiver = Stream(context=tls(authority))
    ran(sink(receiver.address, transport="tls", **options), store, beside=receiver)
    assert records(receiver.messages) == names(2000)


def test_a_receiver_of_another_name_gets_nothing(store, authority, caplog):
    put(store, 2)
    receiver = Stream(context=tls(authority))
    runner = ran(sink(receiver.address, transport="tls", ca=authority.file), store, beside=receiver)
    assert (runner.sent, runner.failures) == (0, 1)
    assert receiver.messages == []
    assert "fails and is tried again" in caplog.text


def test_a_connection_that_breaks_within_a_batch(store):
    """The whole batch comes again: nothing is missing, and doubles carry the same chain and number."""
    put(store, 3000)
    dead = []

    def script(receiver, writer):
        if not dead and len(receiver.taken[0]) > 200_000:
            dead.append(True)
            writer.transport.abort()

    receiver = Stream(script=script)
    runner = ran(sink(receiver.address), store, waits=Waits(2), beside=receiver)
    assert (runner.failures, runner.sent) == (1, 3000)
    found = records(receiver.messages)
    assert len(found) > 3000
    assert found[-3000:] == names(3000)


def test_a_receiver_that_hung_up_between_batches_misses_nothing(store):
    put(store, 2)
    receiver = Stream(script=lambda receiver, writer: len(receiver.taken) < 2 and writer.transport.abort())

    runner = ran(sink(receiver.address), store, waits=Waits(4, lambda count: put(store, 1)), beside=receiver)
    assert runner.failures >= 1
    assert set(records(receiver.messages)) >= set(names(4))


def test_a_receiver_that_reads_nothing(store, caplog):
    """A batch counts only once the other side has it: here the kernel's buffers are full."""
    put(store, 20_000)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        config = SyslogSink(address=address, timeout=Duration(0.5), batch=20_000)
        runner = ran(Sink(config, ORIGIN), store, config)
    assert (runner.sent, runner.failures) == (0, 1)
    assert "it does not take messages in time" in caplog.text


def test_nobody_there(store, caplog):
    put(store, 1)
    runner = ran(sink(Stream().address), store)
    assert (runner.sent, runner.failures) == (0, 1)
    assert "Connect" in caplog.text


RSYSLOG = """
module(load="imtcp" MaxSessions="10")
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{folder}/port")
module(load="mmpstrucdata")
template(name="record" type="string" string="%syslogseverity% %app-name% %structured-data%\\n")
action(type="omfile" file="{folder}/out" template="record" asyncWriting="off" flushOnTXEnd="on")
"""


@pytest.mark.skipif(shutil.which("rsyslogd", path="/usr/sbin:/usr/bin") is None, reason="rsyslog is not installed")
def test_rsyslog_reads_it(store, tmp_path):
    put(store, 300, code='a "b" \\ [c]')
    conf, folder = tmp_path / "rsyslog.conf", tmp_path
    conf.write_text(RSYSLOG.replace('module(load="mmpstrucdata")\n', "").format(folder=folder))
    command = [shutil.which("rsyslogd", path="/usr/sbin:/usr/bin"), "-n", "-f", str(conf), "-i", str(folder / "pid")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as daemon:
        try:
            while not (folder / "port").is_file() or not (folder / "port").read_text():
                assert daemon.poll() is None, daemon.stderr.read()
            ran(sink(f"127.0.0.1:{(folder / 'port').read_text()}"), store)
        finally:
            daemon.terminate()
            daemon.wait(20)
    lines = (folder / "out").read_text().splitlines()
    assert len(lines) == 300
    assert lines[0].startswith('6 gatewayd [call@32473 instance="0123456789abcdef" gateway="edge-1" chain="calls-0"')
    assert 'code="a \\"b\\" \\\\ [c\\]"' in lines[0]
