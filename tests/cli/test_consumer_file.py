"""The consumers file as the command line changes it."""

from __future__ import annotations

import fcntl
import os
import threading

import pytest

from gatewayd.cli.consumer_file import changing, read
from gatewayd.errors import GatewaydError

ODD = b'{"id": "odd",   "unknown": [1, 2.50, "\\u00e4"], "keys": []}'


@pytest.fixture
def path(tmp_path):
    return f"{tmp_path}/consumers.jsonl"


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_file_that_is_not_there_is_empty_and_made_for_us_alone(path):
    assert list(read(path)) == []
    assert not os.path.exists(path)
    with changing(path) as file:
        file.put({"id": "acme"})
    assert content(path) == b'{"id":"acme"}\n'
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_what_is_not_touched_stays_to_the_byte(path):
    write(path, ODD + b"\n\n" + b'{"id":"acme","x":1}\r\n' + b'{ "id" : "last" }')
    with changing(path) as file:
        file.put({**file.consumer("acme"), "keys": []})
        file.put({"id": "new"})
    assert content(path) == ODD + b'\n\n{"id":"acme","x":1,"keys":[]}\n{ "id" : "last" }\n{"id":"new"}\n'


def test_fields_that_are_not_known_stay(path):
    write(path, ODD + b"\n")
    with changing(path) as file:
        table = file.consumer("odd")
        table["keys"] = [{"id": "k"}]
        file.put(table)
    assert read(path).consumer("odd") == {"id": "odd", "unknown": [1, 2.5, "ä"], "keys": [{"id": "k"}]}


def test_nothing_is_written_if_something_fails_or_nothing_changes(path):
    write(path, ODD + b"\n")
    before = os.stat(path)
    with pytest.raises(ZeroDivisionError), changing(path) as file:
        file.put({"id": "acme"})
        raise ZeroDivisionError
    with changing(path):
        pass
    assert os.path.samestat(os.stat(path), before)
    assert content(path) == ODD + b"\n"


def test_a_disk_that_is_full_leaves_the_old_file(path, tmp_path, monkeypatch):
    write(path, ODD + b"\n")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), changing(path) as file:
        file.put({"id": "acme"})
    assert content(path) == ODD + b"\n"
    assert os.listdir(tmp_path) == ["consumers.jsonl"]


def test_mode_and_links_stay(path, tmp_path):
    write(path, ODD + b"\n")
    os.chmod(path, 0o640)
    os.symlink(path, tmp_path / "link")
    with changing(f"{tmp_path}/link") as file:
        file.put({"id": "acme"})
    assert os.path.islink(tmp_path / "link")
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert read(path).consumer("acme")


def test_two_who_change_it_do_so_one_after_the_other(path):
    def add(number):
        for step in range(10):
            with changing(path) as file:
                file.put({"id": f"c{number}-{step}"})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read(path))) == 40


def test_it_is_locked_while_it_is_changed(path):
    with changing(path), open(path, "rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"id":5}', b'{"name":"x"}', b'{"id":"a","keys":{}}'])
def test_a_file_that_is_none_is_left_alone(path, line):
    write(path, ODD + b"\n" + line + b"\n")
    with pytest.raises(GatewaydError, match=r"consumers\.jsonl:2: "), changing(path):
        pass
    assert content(path) == ODD + b"\n" + line + b"\n"
