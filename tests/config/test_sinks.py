from __future__ import annotations

from typing import Any

import pytest
from msgspec import inspect

from gatewayd.config.convert import by_tag, convert_table
from gatewayd.config.model import Document, decode
from gatewayd.config.sinks import AnySink, FileSink, PersonalField, PlainField, PostgresSink, Section

SECRET = "pass-word"


def faults_of(table: dict[str, Any]) -> list[str]:
    """What is wrong with a sink of this table."""
    _, faults = convert_table(Document, {"sinks": {"a": table}}, "")
    return [str(fault) for fault in faults]


def test_kinds_are_told_by_their_tag():
    assert set(by_tag(inspect.type_info(AnySink))) == {"postgres", "clickhouse", "file", "syslog"}
    assert by_tag(inspect.type_info(FileSink | None)) == {}
    assert by_tag(inspect.type_info(int)) == {}


def test_a_sink_is_of_its_kind():
    sinks = decode({"sinks": {"a": {"kind": "file", "path": "/x"}}}).sinks
    assert sinks == {"a": FileSink(path="/x")}
    assert faults_of({"kind": "file", "path": "/x", "keep": 3, "rotate_size": "1MiB"}) == []


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, 'sinks.a.kind: missing; allowed: "'),
        ({"kind": 3}, "sinks.a.kind: missing"),
        ({"kind": "posgres"}, "sinks.a.kind: not allowed; found a text; allowed: "),
        ({"kind": "file"}, "sinks.a.path: missing"),
        (
            {"kind": "file", "path": "/x", "url": "y"},
            'sinks.a.url: no option of kind = "file"; allowed: batch, fields, interval, keep, kind, path,',
        ),
        ({"kind": "file", "path": "/x", "facility": "user"}, '(it is one of kind = "syslog")'),
        ({"kind": "file", "path": "/x", "kep": 1}, "sinks.a.kep: unknown option"),
        ({"kind": "file", "path": "/x", "keep": -1}, "sinks.a.keep: out of range"),
        ({"kind": "file", "path": "/x", "fields": ["sttus"]}, "sinks.a.fields[0]: not allowed"),
        ({"kind": "postgres", "url": "x", "table": "a; drop"}, "sinks.a.table: not a valid value"),
        ({"kind": "syslog", "address": "x", "data_id": "call"}, "sinks.a.data_id: not a valid value"),
        ("file", "sinks.a: wrong type; found a text; allowed: a table"),
    ],
)
def test_what_is_wrong_with_one(table, fault):
    found = faults_of(table)
    assert len(found) == 1
    assert fault in found[0]


def test_every_field_is_one_of_a_call():
    from typing import get_args

    fields = {*get_args(PlainField), *get_args(PersonalField)}
    assert len(fields) == len(get_args(PlainField)) + len(get_args(PersonalField)) == 36


def test_nothing_secret_is_shown():
    assert SECRET not in repr(PostgresSink(url=f"postgresql://a:{SECRET}@b/c"))
    assert issubclass(PostgresSink, Section)
