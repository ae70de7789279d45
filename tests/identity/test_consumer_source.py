"""Where consumers come from: the document, and a file whose faults are named by line."""

from __future__ import annotations

import json
import os

import pytest

from gatewayd.config.consumers import ApiKey, Consumer
from gatewayd.config.model import Document, Identity
from gatewayd.core.arena import Arena
from gatewayd.errors import ConfigError
from gatewayd.identity import consumer_source
from gatewayd.identity.consumer_source import open_consumers

HASH = "hmac-sha256:" + "0a" * 32


@pytest.fixture
def listed(tmp_path):
    """A function that writes a consumers file of these lines, and gives a document that names it."""

    def write(*lines, **consumers):
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "consumers.jsonl").write_text("\n".join(text))
        return Document(identity=Identity(consumers_file=f"{tmp_path}/consumers.jsonl"), consumers=consumers)

    return write


def faults(document):
    with pytest.raises(ConfigError) as caught:
        open_consumers(document, None)
    return caught.value.faults


def places(document):
    found = faults(document)
    assert all(fault.file.endswith("consumers.jsonl") for fault in found)
    return [(fault.line, fault.path, fault.message) for fault in found]


def test_both_sources_are_one(listed):
    found = open_consumers(listed({"id": "bert", "plan": "p"}, "", {"id": "anna"}, carl=Consumer("Carl")), None)
    assert [found.by_id(name).id for name in ("anna", "bert", "carl")] == ["anna", "bert", "carl"]
    assert found.by_id("bert").plan == "p"


def test_without_a_file_there_is_the_document(tmp_path):
    assert open_consumers(Document(consumers={"anna": Consumer()}), None).by_id("anna")
    path = f"{tmp_path}/none"
    (fault,) = faults(Document(identity=Identity(consumers_file=path)))
    assert (fault.path, fault.message) == ("identity.consumers_file", "cannot be read: No such file or directory")


def test_every_faulty_line_is_named_with_all_that_is_wrong(listed):
    document = listed(
        {"id": "fine"},
        "{",
        "[]",
        "",
        {"id": "acme", "keys": [{"id": "k", "hash": "gw_live_x", "expries": "2027-01-31"}], "plan": 5},
        {"name": "nobody"},
        b"\xff".decode("latin-1"),
    )
    found = places(document)
    assert [(line, path) for line, path, _ in found] == [
        (2, "consumers"),
        (3, "consumers"),
        (5, "consumers.acme.keys[0].hash"),
        (5, "consumers.acme.keys[0].expries"),
        (5, "consumers.acme.plan"),
        (6, "consumers.id"),
        (7, "consumers"),
    ]


def test_what_stands_there_twice_is_named_where_it_stands_again(listed):
    key = {"id": "k", "hash": HASH}
    document = listed({"id": "a.b", "keys": [key]}, {"id": "c", "keys": [key]}, {"id": "a.b"})
    assert sorted(places(document)) == [
        (2, "consumers.c.keys[0]", "consumer a.b has the same"),
        (3, 'consumers."a.b"', "there is another consumer of this id"),
    ]


def test_a_signature_key_that_checks_nothing(listed):
    key = {"keyid": "i", "algorithm": "ed25519", "key": "geheim"}
    found = places(listed({"id": "a"}, {"id": "b", "signatures": [key]}))
    assert found == [(2, "consumers.b.signatures[0].key", "ed25519 cannot use it: not a public key in PEM form")]


def test_a_consumer_of_the_document_may_not_stand_in_the_file_too(listed):
    document = listed({"id": "acme"}, acme=Consumer(keys=[ApiKey("k", HASH)]))
    assert places(document) == [(1, "consumers.acme", "there is another consumer of this id")]


def test_faults_are_shown_up_to_a_number(listed):
    assert len(faults(listed(*["{"] * 500))) == 20


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"id": "acme\n"}, 'consumers."acme\\n".id'),
        ({"id": "a", "labels": {"team": "x\n"}}, "consumers.a.labels.team"),
        ({"id": "a", "groups": ["gold\n"]}, "consumers.a.groups[0]"),
        ({"id": "a", "name": "x\r\nSet-Cookie: a"}, "consumers.a.name"),
    ],
)
def test_no_line_break_gets_in(listed, table, path):
    assert [where for _, where, _ in places(listed(table))] == [path]


def test_escapes_are_taken_where_they_are_harmless(listed):
    found = open_consumers(listed({"id": "a", "name": 'A "quoted" Ä'}), None)
    assert found.by_id("a").name == 'A "quoted" Ä'


def test_no_fault_shows_what_it_found(listed):
    document = listed({"id": "a", "keys": [{"id": "k", "hash": "gw_live_geheim"}]}, '{"id":"b","keys":"gw_live_geheim"')
    assert not any("geheim" in str(fault) for fault in faults(document))


def test_a_file_nested_beyond_reason_is_a_fault(listed):
    assert places(listed('{"id":"a","labels":' + "[" * 100_000))[0][:2] == (1, "consumers")


def test_workers_find_what_one_has_made(listed, monkeypatch):
    document, arena = listed({"id": "acme"}), Arena(size=1 << 24)
    first = open_consumers(document, arena)
    monkeypatch.setattr(consumer_source, "make", None)
    assert open_consumers(document, arena).by_id("acme") == first.by_id("acme")


def test_other_content_is_another_index(listed):
    arena = Arena(size=1 << 24)
    before = open_consumers(listed({"id": "acme"}, anna=Consumer()), arena)
    assert open_consumers(listed({"id": "acme"}, bert=Consumer()), arena).by_id("anna") is None
    after = open_consumers(listed({"id": "other"}, anna=Consumer()), arena)
    assert [each.by_id("acme") is None for each in (before, after)] == [False, True]


def test_a_file_that_changes_meanwhile_is_taken_as_it_is_then(listed, monkeypatch):
    document, arena = listed({"id": "old"}), Arena(size=1 << 24)
    real = consumer_source._file_digest
    swaps = [lambda: listed({"id": "new"})]

    def digest(path):
        found = real(path)
        while swaps:
            swaps.pop()()
        return found

    monkeypatch.setattr(consumer_source, "_file_digest", digest)
    found = open_consumers(document, arena)
    assert (found.by_id("old"), found.by_id("new").id) == (None, "new")
    assert open_consumers(listed({"id": "old"}), arena).by_id("old").id == "old"


def test_a_file_that_changes_all_the_time_is_a_fault(listed, monkeypatch):
    document = listed({"id": "a"})
    monkeypatch.setattr(consumer_source, "_file_digest", lambda path: "another")
    (fault,) = faults(document)
    assert "changes all the time" in fault.message


def test_a_folder_is_no_file(tmp_path):
    (fault,) = faults(Document(identity=Identity(consumers_file=os.fspath(tmp_path))))
    assert fault.message == "cannot be read: Is a directory"
