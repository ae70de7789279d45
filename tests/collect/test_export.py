from __future__ import annotations

import csv
import os
import time
from types import SimpleNamespace

import duckdb
import msgspec
import pytest

from gatewayd.audit.record import Captured
from gatewayd.collect import export
from gatewayd.collect.export import AlreadyThere, NoRoom, file_name, keep, part_of
from gatewayd.collect.filters import Filters
from gatewayd.collect.logs import SHOWN
from gatewayd.collect.parameters import Wrong
from tests.support.calls import call, erased, fill, store_in

BODY = msgspec.msgpack.encode(Captured(request_body=b"hello"))


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    rows = [call(number, route="it's", host='"a",b', status=200 + number, captured=BODY) for number in range(1, 6)]
    fill(store, [*rows, erased(call(6, status=500))])
    with store.cursor() as cursor:
        yield cursor
    store.close()


def test_parquet_has_what_the_store_has(cursor, tmp_path):
    path = tmp_path / "it's.parquet"
    assert export.export(cursor, Filters(), "parquet", path, captured=True) == 6
    with duckdb.connect() as other:
        read = other.execute("SELECT * FROM read_parquet(?) ORDER BY number", [str(path)])
        names = [column[0] for column in read.description]
        rows = read.fetchall()
    listed = ", ".join(f'"{name}"' for name in (*SHOWN, "captured"))
    assert names == [*SHOWN, "captured"]
    assert rows == cursor.execute(f"SELECT {listed} FROM calls ORDER BY number").fetchall()


def test_only_what_fulfils_filters(cursor, tmp_path):
    path = tmp_path / "a.parquet"
    assert export.export(cursor, Filters(status=((203, 499),)), "parquet", path, captured=False) == 3
    with duckdb.connect() as other:
        assert other.execute("SELECT list(status ORDER BY status) FROM read_parquet(?)", [str(path)]).fetchone() == (
            [203, 204, 205],
        )


def test_csv(cursor, tmp_path):
    path = tmp_path / "a.csv"
    export.export(cursor, Filters(), "csv", path, captured=False)
    with path.open(newline="") as file:
        first, *_, last = csv.DictReader(file)
    assert list(first) == list(SHOWN)
    assert (first["at"], first["route"], first["host"]) == ("2027-01-15T12:00:01.000000Z", "it's", '"a",b')
    assert (last["status"], last["client"]) == ("500", "")


def test_a_json_object_per_line(cursor, tmp_path):
    path = tmp_path / "a.ndjson"
    export.export(cursor, Filters(), "ndjson", path, captured=True)
    first, *_, last = map(msgspec.json.decode, path.read_bytes().splitlines())
    assert (first["at"], first["status"], first["sampled"]) == ("2027-01-15T12:00:01.000000Z", 201, False)
    assert first["captured"] == msgspec.json.decode(msgspec.json.encode(BODY))
    assert (last["client"], last["captured"]) == (None, None)


def test_nothing_is_a_file_too(cursor, tmp_path):
    for kind in export.FORMATS:
        assert export.export(cursor, Filters(status=((599, 599),)), kind, tmp_path / kind, captured=False) == 0
        assert (tmp_path / kind).exists()


def test_a_disk_is_not_filled(cursor, tmp_path, monkeypatch):
    free = SimpleNamespace(free=export.SPARE + 6 * 150 - 1)
    monkeypatch.setattr(export.shutil, "disk_usage", lambda _: free)
    with pytest.raises(NoRoom, match="too little room"):
        export.export(cursor, Filters(), "parquet", tmp_path / "a", captured=False)
    assert not (tmp_path / "a").exists()
    free.free += 1
    export.export(cursor, Filters(), "parquet", tmp_path / "a", captured=False)
    with pytest.raises(NoRoom):
        export.export(cursor, Filters(), "parquet", tmp_path / "a", captured=True)


def test_a_part_gets_its_name_when_it_is_whole(cursor, tmp_path):
    folder = tmp_path / "exports"
    with part_of(folder) as part:
        export.export(cursor, Filters(), "csv", part, captured=False)
        assert [path.name for path in folder.iterdir()] == [part.name]
        path = keep(part, "calls.csv")
    assert [path.name for path in folder.iterdir()] == ["calls.csv"]
    assert path.read_text().count("\n") == 7
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    with part_of(folder) as part, pytest.raises(AlreadyThere, match=r"calls\.csv"):
        keep(part, "calls.csv")
    assert [path.name for path in folder.iterdir()] == ["calls.csv"]


def test_parts_that_were_left_are_removed(tmp_path):
    old, new, other = tmp_path / ".old.part", tmp_path / ".new.part", tmp_path / "old.part"
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, time.time() - 7 * 3600))
    with part_of(tmp_path):
        assert not old.exists()
    assert sorted(tmp_path.iterdir()) == [new, other]


@pytest.mark.parametrize("name", ["calls.parquet", "a", "2027-01_x.csv", "x" * 100])
def test_names_of_files(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "/a", "a b", "a\n", "x" * 101, "ä", "-a"])
def test_what_is_no_name(name):
    with pytest.raises(Wrong):
        file_name(name)
