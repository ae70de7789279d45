"""Reading files: what is joined, what cannot be, and exactly where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewayd.config.faults import Faults
from gatewayd.config.join import read
from gatewayd.config.sources import Sources
from gatewayd.errors import ConfigError


def write(folder: Path, **files: str) -> None:
    """Write files named `<name>.toml`, `__` standing for a slash."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def joined(folder: Path, **environ: str) -> tuple[dict[str, Any], list[str], Sources]:
    """What `conf.toml` of a folder reads as, its faults with paths below the folder, and its sources."""
    sources = Sources(str(folder / "conf.toml"))
    faults = Faults(sources)
    raw = read(folder / "conf.toml", sources, environ, faults)
    return raw, [str(fault).replace(f"{folder}/", "") for fault in faults.found], sources


def test_sections_of_several_files_are_one(tmp_path):
    write(
        tmp_path,
        conf='include = ["more/*.toml", "one.toml"]\n[limits]\nhead = 1\n[routes.a]\npath = "/a"\n',
        more__b='include = ["../${env:NAME}.toml"]\n[routes.b]\npath = "/b"\n',
        more__c="[limits]\nbody = 2\n",
        one="[gateway]\n",
        two="[routes.two]\n",
    )
    raw, faults, sources = joined(tmp_path, NAME="two")
    assert not faults
    assert raw == {
        "limits": {"head": 1, "body": 2},
        "routes": {"a": {"path": "/a"}, "b": {"path": "/b"}, "two": {}},
        "gateway": {},
    }
    assert sources("limits.body") == (f"{tmp_path}/more/c.toml", 2)
    assert sources("routes.b.path") == (f"{tmp_path}/more/b.toml", 3)
    assert sources("gateway") == (f"{tmp_path}/one.toml", 1)
    order = [Path(name).name for name in sources.texts]
    assert order == ["conf.toml", "b.toml", "two.toml", "c.toml", "one.toml"]


def test_a_glob_may_reach_any_depth(tmp_path):
    write(tmp_path, conf='include = ["one/**/*.toml"]\n', one__a="[limits]\n", one__two__b="[gateway]\n")
    assert joined(tmp_path)[0] == {"limits": {}, "gateway": {}}


def test_a_glob_may_match_nothing(tmp_path):
    write(tmp_path, conf='include = ["conf.d/*.toml"]\n')
    assert joined(tmp_path)[:2] == ({}, [])


@pytest.mark.parametrize(
    ("conf", "other", "fault"),
    [
        (
            "[limits]\nhead = 1\n",
            "[limits]\n\nhead = 2\n",
            "o.toml:3: limits.head: stands in two files; found first in conf.toml:3",
        ),
        (
            "[routes.a]\n",
            "[routes.a]\n",
            "o.toml:1: routes.a: stands in two files; found first in conf.toml:2",
        ),
        ("[routes.a]\npath = 1\n", "[routes]\na.service = 1\n", "o.toml:2: routes.a: stands in two files"),
        ("limits = 1\n", "[limits]\n", "o.toml:1: limits: stands in two files; found first in conf.toml:2"),
        ("[limits]\n", "limits = 1\n", "o.toml:1: limits: stands in two files; found first in conf.toml:2"),
    ],
)
def test_the_same_in_two_files(tmp_path, conf, other, fault):
    write(tmp_path, conf='include = ["o.toml"]\n' + conf, o=other)
    _, faults, _ = joined(tmp_path)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


@pytest.mark.parametrize(
    ("include", "fault"),
    [
        ('["a.toml",\n"no.toml"]', 'conf.toml:2: include[1]: there is no such file; found "no.toml"'),
        ('["${env:NO}"]', "conf.toml:1: include[0]: the environment has no NO"),
        ('["conf.toml"]', "conf.toml:1: include[0]: files include each other in a circle"),
        ('["*.toml"]', "conf.toml:1: include[0]: files include each other in a circle"),
        ('["b.toml"]', 'b.toml:1: include[0]: files include each other in a circle; found "conf.toml"'),
        ('["a.toml", "a.toml"]', "conf.toml:1: include[1]: a.toml is included twice"),
    ],
)
def test_includes_that_cannot_be(tmp_path, include, fault):
    write(tmp_path, conf=f"include = {include}\n", a="[limits]\n")
    if "b.toml" in include:
        write(tmp_path, b='include = ["conf.toml"]\n')
    _, faults, _ = joined(tmp_path)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_an_include_that_is_no_list_is_left_to_its_type(tmp_path):
    write(tmp_path, conf='include = "a.toml"\n')
    assert joined(tmp_path)[:2] == ({"include": "a.toml"}, [])
    write(tmp_path, conf='include = [1, "a.toml"]\n', a="[limits]\n")
    assert joined(tmp_path)[0] == {"include": [1, "a.toml"], "limits": {}}
    write(tmp_path, conf='include = ["a.toml"]\n', a="\ninclude = 1\n")
    assert joined(tmp_path)[2]("include") == (f"{tmp_path}/a.toml", 2)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = = 2\n", 2),
        ("[a]\n[a]\n", 2),
        ("a = 1\na = 2\n", 2),
        ("a = '''\nx\n", 2),
        ("a = [1,\n\n", 1),
        ("a = 1\r\nb\r\n", 2),
    ],
)
def test_what_is_not_toml(tmp_path, text, line):
    (tmp_path / "conf.toml").write_bytes(text.encode())
    with pytest.raises(ConfigError) as raised:
        joined(tmp_path)
    (fault,) = raised.value.faults
    assert (fault.path, fault.file, fault.line) == ("TOML", f"{tmp_path}/conf.toml", line)
    assert "(at " not in fault.message


def test_what_is_not_utf_8(tmp_path):
    (tmp_path / "conf.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"conf.toml:2: TOML: the text is not UTF-8"):
        joined(tmp_path)


def test_every_file_that_is_not_toml_is_named(tmp_path):
    write(tmp_path, conf='include = ["a.toml", "b.toml", "c.toml"]', a="x", b="[limits]\n", c="y")
    with pytest.raises(ConfigError) as raised:
        joined(tmp_path)
    assert [Path(fault.file).name for fault in raised.value.faults] == ["a.toml", "c.toml"]


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"conf.toml: configuration: cannot be read: No such file"):
        joined(tmp_path)
    write(tmp_path, conf='include = ["d*"]')
    (tmp_path / "d").mkdir()
    with pytest.raises(ConfigError, match=r"/d: configuration: cannot be read: Is a directory"):
        joined(tmp_path)
