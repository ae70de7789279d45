from __future__ import annotations

import json

import pytest

from gatewayd.collect.schema import CALLS_COLUMNS
from gatewayd.collect.schema import PERSONAL as ERASED
from gatewayd.collect.sinks.fields import (
    IDENTITY,
    ORDER,
    PERSONAL,
    Origin,
    chosen,
    expressions,
    json_expressions,
    json_lines,
    json_of_captured,
    quoted,
)
from gatewayd.config.sinks import Sink

from .recorded import CAPTURED, ORIGIN, opened, put


def test_every_column_of_a_call_can_go_out():
    assert set(CALLS_COLUMNS) == {*ORDER, *IDENTITY} - {"instance", "gateway"}
    assert set(ERASED) == PERSONAL


def test_what_is_personal_stays_unless_it_may_go():
    assert set(chosen(Sink())) == set(ORDER) - PERSONAL
    assert set(chosen(Sink(personal=True))) == set(ORDER)
    assert chosen(Sink(fields=["status", "client", "route"])) == ("route", "status")
    assert chosen(Sink(fields=["status", "client"], personal=True)) == ("status", "client")


def selected(folder, columns):
    store = opened(folder)
    put(store, captured=CAPTURED)
    put(store, client=None, agent=None, values=None)
    with store.cursor() as cursor:
        rows = cursor.execute(f"SELECT {', '.join(columns)} FROM calls ORDER BY number").fetchall()
    store.close()
    return rows


def test_values(tmp_path):
    names = ("instance", "gateway", "number", "status", "values", "at")
    first, second = selected(tmp_path, expressions(names, Origin("it's", "x")))
    assert first[:-1] == ("it's", "x", 1, 200, "00ff 11ee")
    assert second[:-1] == ("it's", "x", 2, 200, None)


def test_json(tmp_path):
    names = (*IDENTITY, *ORDER)
    rows = selected(tmp_path, json_expressions(names, ORIGIN, "strftime(\"at\", '%Y')"))
    first, second = (json.loads(line) for line in json_lines(rows, names))
    assert list(first)[:5] == list(IDENTITY)
    assert set(first) == set(names)
    assert (first["instance"], first["at"], first["number"], first["sampled"]) == (ORIGIN.instance, "2026", 1, True)
    assert first["agent"] == 'curl/8 "quoted"'
    assert first["captured"]["request_body"] == '{"a":1}'
    assert (second["client"], second["captured"]) == (None, None)


def test_json_without_what_was_captured(tmp_path):
    names = (*IDENTITY, "status")
    rows = selected(tmp_path, json_expressions(names, ORIGIN, '"at"'))
    assert [len(row) for row in rows] == [1, 1]
    assert json.loads(json_lines(rows, names)[0])["status"] == 200


def test_bodies_that_are_no_text():
    found = json.loads(json_of_captured(CAPTURED))
    assert found["reply_body_base64"] == "/wA="
    assert found["reply_headers"] == [["x-latin", "ä"]]
    assert found["request_headers"] == [["accept", "*/*"]]


@pytest.mark.parametrize(("text", "literal"), [("a", "'a'"), ("a'; --", "'a''; --'")])
def test_literals(text, literal):
    assert quoted(text) == literal
