"""The model's own defaults keep its rules, and a document can be decoded without anything else."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from msgspec import inspect

from gatewayd.config.convert import convert_table
from gatewayd.config.model import Document, PolicyTable, decode
from gatewayd.config.units import to_plain

SMALL = {
    "listeners": {"http": {"address": "127.0.0.1:0"}},
    "upstreams": {"a": {"targets": [{"address": "127.0.0.1:1"}]}},
    "services": {"a": {"upstream": "a"}},
    "routes": {"a": {"path": "/", "service": "a"}},
}


def test_defaults_keep_their_own_rules():
    """Defaults are not validated by msgspec, so they are written out and read back."""
    plain = msgspec.to_builtins(decode(SMALL), enc_hook=to_plain)
    for entry in ("listeners", "upstreams", "routes"):
        for table in plain[entry].values():
            for name in [name for name, value in table.items() if value is None]:
                del table[name]
    value, faults = convert_table(Document, plain, "")
    assert not [str(fault) for fault in faults]
    assert value == decode(SMALL)


def test_what_is_decoded_may_come_from_msgpack():
    packed = msgspec.msgpack.encode(SMALL)
    assert decode(msgspec.msgpack.decode(packed)) == decode(SMALL)


@pytest.mark.parametrize("raw", [{"limit": {}}, {"limits": {"head": "1x"}}, {"limits": {"headers": 0}}])
def test_what_is_wrong_is_not_decoded(raw):
    with pytest.raises(msgspec.ValidationError):
        decode(raw)


def test_a_document_s_text_holds_no_values():
    document = decode(SMALL | {"policies": {"x": {"key": "hunter2"}}})
    assert repr(document) == "<Document listeners=1 upstreams=1 services=1 routes=1 policies=1>"


def test_workers_load_little_to_decode():
    script = "import sys, gatewayd.config.model; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"tomllib", "difflib", "tree_sitter", "cryptography", "glob", "tomli_w"} & {
        *done.stdout.split()
    }


def test_every_table_refuses_unknown_options():
    def tables(info):
        if isinstance(info, inspect.StructType):
            assert info.forbid_unknown_fields, info.cls
            for field in info.fields:
                tables(field.type)
        for below in (
            *getattr(info, "types", ()),
            *(getattr(info, n, None) for n in ("type", "item_type", "value_type")),
        ):
            tables(below)

    tables(inspect.type_info(Document))
    tables(inspect.type_info(PolicyTable))
