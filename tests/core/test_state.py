"""The state directory: who names it, and what becomes of one that cannot be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gatewayd.config.model import decode
from gatewayd.core.state import StateError, make_folder, state_folder


def folder(state_dir: str = "", **environ: str) -> str:
    return str(state_folder(decode({"gateway": {"state_dir": state_dir}}), environ))


def test_the_configuration_comes_first_then_systemd_then_the_user():
    everything = {"STATE_DIRECTORY": "/var/lib/gatewayd", "XDG_STATE_HOME": "/x/state", "HOME": "/x"}
    assert folder("/srv/state", **everything) == "/srv/state"
    assert folder(**everything) == "/var/lib/gatewayd"
    assert folder(XDG_STATE_HOME="/x/state", HOME="/x") == "/x/state/gatewayd"
    assert folder(HOME="/x") == "/x/.local/state/gatewayd"


def test_of_several_directories_of_systemd_the_first_counts():
    assert folder(STATE_DIRECTORY="/var/lib/one:/var/lib/two") == "/var/lib/one"


def test_a_relative_path_of_the_desktop_is_ignored():
    assert folder(XDG_STATE_HOME="state", HOME="/x") == "/x/.local/state/gatewayd"


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "here"}])
def test_without_a_home_it_must_be_named(environ):
    with pytest.raises(StateError, match=r"set gateway\.state_dir"):
        folder(**environ)


def test_it_is_made_for_the_user_alone(tmp_path: Path):
    made = make_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert make_folder(made) == made


def test_a_file_in_its_place_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=f"{tmp_path}/file/state cannot be made"):
        make_folder(tmp_path / "file" / "state")


def test_a_directory_of_others_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(StateError, match=f"nothing can be written to the state directory {tmp_path}"):
        make_folder(tmp_path)
