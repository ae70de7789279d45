"""Anchors: the last signed frame of each chain, durable, self-contained, and nobody else's."""

from __future__ import annotations

import os

import msgspec
import pytest

from gatewayd.audit.actions import act
from gatewayd.audit.anchors import FORM, Anchor, AnchorError, export, heads, keys_of, load
from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import HEAD, digest
from gatewayd.audit.keys import is_signed
from tests.support.evidence import SECOND, Bench, somebody


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_the_last_signed_frame_of_each_chain(bench):
    chain = bench.write([[3], [2]], end=False)
    bench.more(chain, 2)
    bench.write([[1]], "calls-1")
    act(bench.state, "one", actor="me")
    actions, first, second = heads(bench.state)
    assert (actions.chain, actions.records, actions.kind) == ("actions", 1, "head")
    assert (first.chain, first.segment, first.kind, first.records) == ("calls-0", 2, "head", 5)
    assert (first.at, first.key) == (bench.at(5), bench.signer.id)
    assert (second.chain, second.kind, second.records) == ("calls-1", "end", 1)
    frame = next(each for each in reversed(bench.frames(2)) if each.kind == HEAD)
    data = bench.path(2).read_bytes()
    assert first.digest == digest(data[frame.start : frame.end]).hex()


def test_it_holds_all_it_takes_to_check_it(bench):
    bench.write([[3]])
    (found,) = heads(bench.state)
    assert is_signed(bench.signer.public, found.frame())
    with pytest.raises(ValueError, match="another frame"):
        msgspec.structs.replace(found, records=4, said=found.said + "00").frame()
    with pytest.raises(ValueError, match="hex"):
        msgspec.structs.replace(found, previous="text").frame()


def test_an_opening_and_what_is_signed_by_nobody_we_know(bench):
    chain = bench.write([[3]])
    opened = chain.open(bench.at(3))
    forged = Chain("calls-0", somebody(), 2, digest(opened), 3)
    bench.path(2).write_bytes(opened + forged.append([b"x"]) + forged.head(9 * SECOND))
    (found,) = heads(bench.state)
    assert (found.segment, found.kind, found.records) == (2, "opening", 3)
    bench.path(3).write_bytes(Chain("calls-0", somebody(), 2, bytes(32), 9).open(1))
    assert heads(bench.state)[0].segment == 2
    bench.path(4).write_bytes(b"\0\0\0\x62\1" + bytes(32) + bytes(64) + b"?")
    assert heads(bench.state)[0].segment == 2


def test_what_is_anchored_is_on_the_disk(bench, monkeypatch):
    bench.write([[3]])
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    heads(bench.state)
    assert synced == [str(bench.path(1))]


def test_nothing_is_anchored_where_nothing_is(bench):
    assert heads(bench.state) == []
    bench.folder().mkdir()
    assert heads(bench.state) == []


def test_what_is_exported_is_read_back(bench, tmp_path):
    bench.write([[3]])
    made = export(bench.state, now=2.0)
    assert (made.form, made.at, list(made.keys)) == (FORM, 2 * SECOND, [bench.signer.id])
    path = tmp_path / "anchor.json"
    path.write_bytes(msgspec.json.encode(made))
    assert load(path) == made
    assert keys_of([made])[bench.signer.id].public_bytes_raw() == bench.signer.public.public_bytes_raw()
    assert isinstance(made.chains[0], Anchor)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"?", "this is no anchor"),
        (b"{}", "this is no anchor"),
        (None, "No such file"),
        (b"other", "of the form"),
    ],
)
def test_what_is_no_anchor(bench, tmp_path, content, why):
    path = tmp_path / "anchor.json"
    if content == b"other":
        content = msgspec.json.encode(msgspec.structs.replace(export(bench.state), form="other"))
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnchorError, match=why):
        load(path)
