"""The model's own defaults keep its rules, and a document can be decoded without anything else."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from gatewayd.config import model
from gatewayd.config.convert import convert_table
from gatewayd.config.model import Document, Section, decode
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
    assert repr(document) == "<Document listeners=1 upstreams=1 services=1 routes=1 consumers=0 policies=1>"


def test_workers_load_little_to_decode():
    script = "import sys, gatewayd.config.model; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"tomllib", "difflib", "tree_sitter", "cryptography", "glob", "tomli_w"} & {*done.stdout.split()}


def test_every_table_refuses_unknown_options():
    kinds = [kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, Section)]
    assert len(kinds) > 20
    for kind in kinds:
        assert kind.__struct_config__.forbid_unknown_fields
        assert kind.__struct_config__.frozen
