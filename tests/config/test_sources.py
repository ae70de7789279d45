"""Sources know the file and line of an option, its override, and how a secret was written."""

from __future__ import annotations

from pathlib import Path

from gatewayd.config.sources import ENVIRONMENT, Sources


def sources() -> Sources:
    """Two files, one option overridden, one a secret."""
    made = Sources("conf.toml")
    made.texts = {
        "conf.toml": b"[limits]\nhead = 1\n\n[routes.a]\npath = '/'\n",
        "sub/b.toml": b"[routes.b]\n",
    }
    made.origins = {
        ("limits",): "conf.toml",
        ("limits", "head"): "conf.toml",
        ("routes",): "conf.toml",
        ("routes", "a"): "conf.toml",
        ("routes", "b"): "sub/b.toml",
    }
    made.overrides = {("routes", "a", "reply"): "GATEWAYD__ROUTES__A__REPLY"}
    made.substituted(("limits", "head"), "${env:HEAD}")
    return made


def test_an_option_is_found_in_its_file():
    assert sources()("limits.head") == ("conf.toml", 2)
    assert sources()("routes.a.path") == ("conf.toml", 5)
    assert sources()("routes.b") == ("sub/b.toml", 1)


def test_what_is_not_there_is_placed_where_it_would_stand():
    assert sources()("routes.b.path") == ("sub/b.toml", 1)
    assert sources()("limits.headers") == ("conf.toml", 1)
    assert sources()("listeners.http") == ("conf.toml", 0)


def test_an_override_hides_the_files():
    assert sources()("routes.a.reply.body") == (ENVIRONMENT, 0)
    assert sources()("routes.a") == ("conf.toml", 4)


def test_relative_names_count_from_the_file_they_stand_in():
    here = Path.cwd()
    assert sources().directory(("limits", "head")) == here
    assert sources().directory(("routes", "b", "reply")) == here / "sub"
    assert sources().directory(("routes", "a", "reply", "file")) == here


def test_the_first_note_of_how_a_value_was_written_stays():
    made = sources()
    made.substituted(("limits", "head"), "later")
    assert made.written(("limits", "head")) == "${env:HEAD}"
    assert made.written(("limits", "body")) is None
    assert Sources("x").written(("limits",)) is None


def test_its_text_says_nothing_of_values():
    assert repr(sources()) == "<Sources conf.toml files=2>"
