"""The file with the supervisor's process id."""

from __future__ import annotations

import os

import pytest

from gatewayd.server import pid_file


def test_written_read_and_removed(tmp_path):
    path = f"{tmp_path}/gatewayd.pid"
    pid_file.write(path)
    assert pid_file.read(path) == os.getpid()
    assert os.listdir(tmp_path) == ["gatewayd.pid"]
    pid_file.remove(path)
    assert os.listdir(tmp_path) == []
    assert pid_file.read(path) == 0


def test_no_file_is_wanted():
    pid_file.write("")
    pid_file.remove("")


def test_what_is_no_pid(tmp_path):
    path = tmp_path / "gatewayd.pid"
    path.write_text("precious")
    assert pid_file.read(str(path)) == 0
    pid_file.remove(str(path))
    assert path.exists()


def test_a_successors_file_stays(tmp_path):
    path = tmp_path / "gatewayd.pid"
    path.write_text("1\n")
    pid_file.remove(str(path))
    assert path.read_text() == "1\n"


def test_a_file_that_cannot_be_written_is_an_error_at_first_and_a_line_in_the_log_later(tmp_path, caplog):
    with pytest.raises(OSError):
        pid_file.write(f"{tmp_path}/nowhere/gatewayd.pid")
    before = f"{tmp_path}/a.pid"
    pid_file.write(before)
    pid_file.move(before, before)
    assert pid_file.read(before) == os.getpid()
    pid_file.move(before, f"{tmp_path}/b.pid")
    assert os.listdir(tmp_path) == ["b.pid"]
    pid_file.move(f"{tmp_path}/b.pid", f"{tmp_path}/nowhere/c.pid")
    assert "cannot be written" in caplog.text
