from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from gatewayd.collect.sinks.fields import Origin
from gatewayd.collect.sinks.postgres import Sink
from gatewayd.collect.sinks.sink import Runner
from gatewayd.config.sinks import PostgresSink
from gatewayd.config.units import Duration

from ...support.postgres_server import PostgresProcess, needs_postgres
from ...wire.certificates import Authority
from .recorded import CAPTURED, ORIGIN, names, opened, put
from .running import Waits, killed_before_the_position, ran

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def server():
    with PostgresProcess() as server:
        yield server


@pytest.fixture
def table(request):
    """A table of the test's own."""
    return request.node.name.lower().replace("[", "_").replace("]", "")[-60:].strip("_")


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def sink(server, table, origin=ORIGIN, **options):
    return Sink(PostgresSink(url=server.url, table=table, **({"tls": "off"} | options)), origin)


def records(server, table):
    rows = server.query(f"SELECT chain, number FROM {table} ORDER BY chain, number")
    return [(chain, int(number)) for chain, number in rows]


def test_one_row_per_call(store, server, table):
    put(store, captured=CAPTURED, code='it\'s \\ "quoted" {a,b} NULL é\N{PILE OF POO}')
    put(store, 2, code="NULL", client=None)
    assert ran(sink(server, table, personal=True), store).sent == 3
    assert records(server, table) == names(3)
    columns = "instance, gateway, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), status, sampled, code"
    assert server.query(f"SELECT {columns}, client, captured FROM {table} WHERE number = 1")[0][:-1] == (
        ORIGIN.instance,
        "edge-1",
        "2026-03-01 12:00:00.000001",
        "200",
        "t",
        'it\'s \\ "quoted" {a,b} NULL é\N{PILE OF POO}',
        "192.0.2.7",
    )
    (captured,) = server.query(f"SELECT captured FROM {table} WHERE number = 1")
    assert json.loads(captured[0])["request_body"] == '{"a":1}'
    assert server.query(f"SELECT code, client IS NULL FROM {table} WHERE number = 2") == [("NULL", "t")]


def test_a_batch_that_arrived_already_changes_nothing(store, server, table, monkeypatch):
    put(store, 5)
    killed_before_the_position(monkeypatch, sink(server, table), store)
    assert records(server, table) == names(5)
    put(store, 2)
    assert ran(sink(server, table), store).sent == 7
    assert records(server, table) == names(7)


def test_gateways_share_a_table(store, server, table):
    put(store, 2)
    ran(sink(server, table), store, name="one")
    ran(sink(server, table, Origin("another", "edge-2")), store, name="two")
    assert records(server, table) == [("calls-0", 1), ("calls-0", 1), ("calls-0", 2), ("calls-0", 2)]


def test_a_record_that_no_text_column_takes(store, server, table, caplog):
    put(store, 4)
    put(store, 1, code="a\0b")
    put(store, 4)
    runner = ran(sink(server, table), store)
    assert (runner.sent, runner.refused, runner.failures) == (8, 1, 0)
    assert records(server, table) == [name for name in names(9) if name[1] != 5]
    assert "calls-0 5" in caplog.text


def test_a_record_that_breaks_a_rule_of_the_table(store, server, table):
    put(store, 3)
    ran(sink(server, table), store)
    server.query(f"ALTER TABLE {table} ADD CONSTRAINT short CHECK (length(code) < 5)")
    put(store, 1, code="much too long")
    put(store, 3)
    runner = ran(sink(server, table), store)
    assert (runner.sent, runner.refused) == (3, 1)


def test_a_table_of_another_shape_is_no_fault_of_the_records(store, server, table, caplog):
    server.query(
        f"CREATE TABLE {table} (instance text, chain text, number bigint, code int,"
        " PRIMARY KEY (instance, chain, number))"
    )
    put(store, 3)
    runner = ran(sink(server, table), store)
    assert (runner.refused, runner.failures, runner.sent) == (0, 1, 0)
    assert "DatatypeMismatchError 42804" in caplog.text


def test_columns_that_are_asked_for_later_are_added(store, server, table):
    put(store, 1)
    ran(sink(server, table, fields=["status"]), store)
    put(store, 1)
    ran(sink(server, table, fields=["status", "route"]), store)
    assert server.query(f"SELECT number, status, route FROM {table} ORDER BY number") == [
        ("1", "200", ""),
        ("2", "200", "quotes"),
    ]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("", "there is no table"),
        ("CREATE TABLE {} (instance text, chain text, number bigint)", "has no column gateway"),
        (
            "CREATE TABLE {} (instance text, gateway text, chain text, number bigint, at timestamptz, status int)",
            "has no unique key",
        ),
    ],
)
def test_a_table_that_is_not_made_here(store, server, made, said, caplog):
    table = f"own_{abs(hash(made))}"
    if made:
        server.query(made.format(table))
    put(store, 1)
    runner = ran(sink(server, table, create=False, fields=["status"]), store)
    assert (runner.sent, runner.failures) == (0, 1)
    assert said in caplog.text


def test_a_table_partitioned_by_time(store, server, table):
    server.query(
        f"CREATE TABLE {table} (instance text, gateway text, chain text, number bigint, at timestamptz, status int,"
        " PRIMARY KEY (instance, chain, number, at)) PARTITION BY RANGE (at)"
    )
    server.query(f"CREATE TABLE {table}_all PARTITION OF {table} DEFAULT")
    put(store, 2)
    assert ran(sink(server, table, create=False, fields=["status"]), store).sent == 2


def test_a_table_in_a_schema(store, server):
    server.query("CREATE SCHEMA apart")
    put(store, 2)
    ran(sink(server, "apart.calls"), store)
    ran(sink(server, "apart.calls"), store)
    assert records(server, "apart.calls") == names(2)


def test_a_server_that_is_down_for_a_while(store, table, caplog):
    with PostgresProcess() as server:
        put(store, 2)
        ran(sink(server, table), store)
        server.stop()
        put(store, 2)

        def start(count):
            if count == 2:
                server.start()

        runner = ran(sink(server, table), store, waits=Waits(3, start))
        assert (runner.failures, runner.sent) == (2, 2)
        assert records(server, table) == names(4)
        assert "Connect" in caplog.text
        assert "pass-word" not in caplog.text


def test_a_server_that_dies_between_batches(store, table):
    with PostgresProcess() as server:
        put(store, 2)

        def again(count):
            if count == 1:
                server.stop()
                server.start()
                put(store, 2)

        runner = ran(sink(server, table), store, waits=Waits(3, again))
        assert (runner.failures, runner.sent) == (1, 4)
        assert records(server, table) == names(4)


def test_a_server_that_does_not_answer_in_time(store, server, table):
    """Another session holds the table."""
    put(store, 1)
    ran(sink(server, table), store)
    put(store, 2)
    held = []

    @asynccontextmanager
    async def holding():
        held.append(await asyncpg.connect(server.url))
        await held[0].execute(f"BEGIN; LOCK TABLE {table}")
        yield

    def release(count):
        if count == 1:
            held[0].terminate()

    runner = ran(sink(server, table, timeout=Duration(0.5)), store, waits=Waits(4, release), beside=holding())
    assert runner.failures >= 1
    assert records(server, table) == names(3)


def test_encryption_is_the_default(store, server, table, caplog):
    put(store, 1)
    runner = ran(sink(server, table, tls="verify"), store)
    assert (runner.sent, runner.failures) == (0, 1)
    assert "pass-word" not in caplog.text


def test_encrypted(store, tmp_path, caplog):
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    settings = {"ssl": "on", "ssl_cert_file": "../server.crt", "ssl_key_file": "../server.key"}
    with PostgresProcess(**settings).holding({"server.crt": pair.cert, "server.key": pair.key}) as server:
        put(store, 2)
        assert ran(sink(server, "calls", tls="verify", ca=authority.file), store).sent == 2
        put(store, 1)
        assert ran(sink(server, "calls", tls="require"), store).sent == 1
        assert records(server, "calls") == names(3)
        put(store, 1)
        runner = ran(sink(server, "calls", tls="verify"), store)  # the system's authorities do not know it
        assert (runner.sent, runner.failures) == (0, 1)


def test_a_batch_is_one_statement():
    target = Sink(PostgresSink(url="postgresql://x/y", table="apart.calls", fields=["status"]), ORIGIN)
    expected = (
        "INSERT INTO apart.calls (instance, gateway, chain, number, at, status) "
        "SELECT rows.instance, rows.gateway, rows.chain, rows.number, rows.at, rows.status "
        "FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::BIGINT[], $5::TIMESTAMP(6) WITH TIME ZONE[], "
        "$6::SMALLINT[]) AS rows(instance, gateway, chain, number, at, status) ON CONFLICT DO NOTHING"
    )
    assert str(target._insert.compile(dialect=dialect.dialect())).split() == expected.split()


def test_nothing_of_it_is_shown(server):
    config = PostgresSink(url=server.url)
    assert "pass-word" not in repr(config) + repr(Sink(config, ORIGIN))


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from gatewayd.collect.sinks.following import Following
from gatewayd.collect.sinks.postgres import Sink
from gatewayd.collect.sinks.sink import Runner
from gatewayd.collect.store import Store
from gatewayd.config.sinks import PostgresSink
from tests.collect.sinks.recorded import ORIGIN
store, config = Store(Path(sys.argv[1])), PostgresSink(url=sys.argv[2], table=sys.argv[3], tls="off", batch=7)
left = [int(sys.argv[4])]
commit = Following.commit
def dies(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    commit(*arguments)
Following.commit = dies
asyncio.run(Runner("s", config, Sink(config, ORIGIN), lambda: store).run())
"""


@pytest.mark.process
def test_killed_between_the_target_and_the_position(store, server, table):
    put(store, 100)
    store.close()
    for count in (1, 3, 2):
        script = [sys.executable, "-c", KILLED, str(store.path), server.url, table, str(count)]
        assert subprocess.run(script, check=False, timeout=60).returncode == -signal.SIGKILL
    runner = ran(sink(server, table), store)
    assert records(server, table) == names(100)
    assert runner.sent == 100 - 3 * 7


def test_it_is_closed_in_the_midst_of_a_batch(store, server, table):
    """As at the end of the daemon: what is under way is undone or done, and nothing is left open."""
    put(store, 3)

    async def play():
        target = sink(server, table)
        task = asyncio.create_task(Runner("s", PostgresSink(url=""), target, lambda: store).run())
        original, begun = target.send, asyncio.Event()

        async def send(batch):
            begun.set()
            return await original(batch)

        target.send = send
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())
    assert len(records(server, table)) in (0, 3)
    ran(sink(server, table), store)
    assert records(server, table) == names(3)
