from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from gatewayd.collect.sinks.clickhouse import SETTINGS, TOKEN, Sink, statements
from gatewayd.collect.sinks.fields import IDENTITY, ORDER, json_lines
from gatewayd.config.sinks import ClickhouseSink
from gatewayd.config.units import Duration

from .clickhouse_server import Answer, ClickHouse
from .recorded import CAPTURED, ORIGIN, names, opened, put
from .running import Waits, killed_before_the_position, ran


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def sink(server, **options):
    return Sink(ClickhouseSink(url=server.url, **options), ORIGIN)


def records(server):
    return [(row["chain"], row["number"]) for row in server.rows]


def once(error):
    """Raises an error the first time."""
    left = [error]

    def script(*_):
        if left:
            raise left.pop()

    return script


def refusing(number, code):
    def script(rows):
        if any(row["number"] == number for row in rows):
            raise Answer(400, code)

    return script


def test_rows_and_how_they_are_asked_for(store):
    put(store, 2, captured=CAPTURED)
    server = ClickHouse()
    target = sink(server, database="logs", table="calls", user="shipper", password="pass-word", personal=True)
    assert ran(target, store, beside=server).sent == 2
    assert records(server) == names(2)
    assert (server.rows[0]["at"], server.rows[0]["gateway"]) == ("2026-03-01 12:00:00.000001", "edge-1")
    assert server.rows[0]["captured"]["request_cut"] is False
    headers, query = server.requests[-1]
    assert query["query"].startswith("INSERT INTO `logs`.`calls` (`instance`, `gateway`, `chain`, `number`, `at`, ")
    assert query["query"].endswith(") FORMAT JSONEachRow")
    assert (headers["X-ClickHouse-User"], headers["X-ClickHouse-Key"]) == ("shipper", "pass-word")
    assert headers["Content-Encoding"] == "gzip"
    assert server.statements == statements("logs", "calls", (*IDENTITY, *ORDER))


def test_plain_and_into_a_table_made_by_others(store):
    put(store, 1)
    server = ClickHouse()
    ran(sink(server, compress=False, create=False, fields=["status"]), store, beside=server)
    headers, _ = server.requests[-1]
    assert "Content-Encoding" not in headers
    assert "X-ClickHouse-Key" not in headers
    assert server.statements == []
    assert set(server.rows[0]) == {*IDENTITY, "status"}


def test_a_batch_whose_answer_was_lost_is_dropped_by_the_server(store):
    put(store, 3)
    server = ClickHouse(after=once(ConnectionError()))
    runner = ran(sink(server), store, waits=Waits(2, lambda count: put(store, 2)), beside=server)
    assert runner.failures == 1
    assert server.tokens[0] == server.tokens[1]
    assert records(server) == names(5)


def test_a_batch_that_was_sent_before_a_crash_is_the_same_afterwards(store, monkeypatch):
    put(store, 3)
    server = ClickHouse()
    killed_before_the_position(monkeypatch, sink(server), store, beside=server)
    put(store, 4)
    ran(sink(server), store, beside=server)
    assert server.tokens[0] == server.tokens[1] != server.tokens[2]
    assert records(server) == names(7)


def test_tokens_of_gateways_are_apart(store):
    put(store, 1)
    server = ClickHouse()
    ran(sink(server), store, beside=server, name="one")
    ran(Sink(ClickhouseSink(url=server.url), ORIGIN._replace(instance="another")), store, beside=server, name="two")
    assert len(server.rows) == 2


@pytest.mark.parametrize("code", [27, 117, 441])
def test_a_record_that_is_refused(store, code, caplog):
    put(store, 5)
    server = ClickHouse(refusing(2, code))
    runner = ran(sink(server), store, beside=server)
    assert (runner.sent, runner.refused, runner.failures) == (4, 1, 0)
    assert sorted(records(server)) == [name for name in names(5) if name[1] != 2]
    assert "Secret" not in caplog.text


def test_a_batch_that_is_too_large_is_sent_in_parts(store):
    put(store, 9)

    def script(rows):
        if len(rows) > 3:
            raise Answer(413)

    server = ClickHouse(script)
    runner = ran(sink(server), store, beside=server)
    assert (runner.sent, runner.refused) == (9, 0)
    assert sorted(records(server)) == names(9)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(500), "it answers 500, code none"),
        (Answer(404, 60), "it answers 404, code 60"),
        (Answer(200, 242), "it answers 200, code 242"),
        (Answer(403, 516), "it answers 403, code 516"),
        (Answer(302), "it answers 302, code none"),
        (ConnectionError(), "ServerDisconnectedError"),
    ],
)
def test_a_server_that_fails_for_a_while(store, answer, said, caplog):
    put(store, 3)
    server = ClickHouse(once(answer))
    runner = ran(sink(server), store, waits=Waits(2), beside=server)
    assert (runner.failures, runner.refused) == (1, 0)
    assert records(server) == names(3)
    assert f"tried again: {said}" in caplog.text
    assert "Secret" not in caplog.text


def test_nobody_there(store, caplog):
    put(store, 1)
    runner = ran(sink(ClickHouse(), password="pass-word"), store)
    assert (runner.sent, runner.failures) == (0, 1)
    assert "pass-word" not in caplog.text


def test_a_server_that_is_silent(store, caplog):
    put(store, 1)
    server = ClickHouse()

    async def hang(_):
        await asyncio.Event().wait()

    server._answer = hang
    runner = ran(sink(server, timeout=Duration(0.1)), store, beside=server)
    assert (runner.sent, runner.failures) == (0, 1)
    assert "it does not answer in time" in caplog.text


def test_nothing_of_it_is_shown():
    config = ClickhouseSink(url="http://localhost:8123", password="pass-word")
    assert "pass-word" not in repr(config) + repr(Sink(config, ORIGIN))


def test_the_table():
    make, more = statements("default", "calls", ("instance", "at", "status", "client", "route"))
    assert "`at` DateTime64(6, 'UTC')" in make
    assert "`client` Nullable(String)" in make
    assert "`route` LowCardinality(String)" in make
    assert "non_replicated_deduplication_window = 1000" in make
    assert more.startswith("ALTER TABLE `default`.`calls` ADD COLUMN IF NOT EXISTS `instance` LowCardinality(String), ")


ENGINE = """
import json, sys
from chdb.session import Session
session = Session()
for statement in json.load(sys.stdin):
    print(str(session.query(statement, "JSONCompactEachRow")), end="")
"""


@pytest.mark.skipif(find_spec("chdb") is None, reason="chdb, ClickHouse in a library, is not installed")
def test_a_real_engine_takes_it_and_drops_what_comes_twice(store):
    put(store, 3, captured=CAPTURED, code='it\'s \\ "quoted" é')
    put(store, 1, client=None)
    target = Sink(ClickhouseSink(url="http://localhost", personal=True), ORIGIN)
    with store.cursor() as cursor:
        columns = ", ".join(target.columns())
        rows = cursor.execute(f"SELECT {columns} FROM calls ORDER BY number").fetchall()
    lines = "\n".join(json_lines(rows, (*IDENTITY, *ORDER)))
    settings = " ".join(
        f"{name} = {value}," for name, value in SETTINGS.items() if name != "wait_end_of_query"
    )  # HTTP's own
    fills = [target._insert.replace(" FORMAT", f" SETTINGS {settings} {TOKEN} = '{token}' FORMAT") for token in "aab"]
    found = "SELECT number, at, status, code, client, JSONExtractString(captured, 'request_body') FROM gatewayd_calls"
    asked = [*statements("default", "gatewayd_calls", (*IDENTITY, *ORDER)), *(f"{fill}\n{lines}" for fill in fills)]
    asked += ["SELECT count() FROM gatewayd_calls", f"{found} FINAL ORDER BY number"]
    done = subprocess.run(
        [sys.executable, "-c", ENGINE], input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=100
    )
    count, *values = map(json.loads, done.stdout.splitlines())
    assert int(count[0]) == 8  # the third came under another name
    assert [int(value[0]) for value in values] == [1, 2, 3, 4]
    assert values[0][1:] == ["2026-03-01 12:00:00.000001", 200, 'it\'s \\ "quoted" é', "192.0.2.7", '{"a":1}']
    assert values[3][4] is None
