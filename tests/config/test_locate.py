"""Line numbers of options, however TOML lets them be written."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.keys import Key, split
from gatewayd.config.locate import lines

TEXT = b"""\
# a comment, with a = 1 in it
include = ["a", "b"]
gateway.name = "x"
gateway."drain.timeout" = 1

[routes.x]
path = '''
[not.a.table]
'''
reply = { status = 200, headers = { "x-y" = "1" } }
[routes."a.b".'c d']
[upstreams.u]
targets = [
  { address = "q" },  # one
  # two
  { address = "r" },
]
[[many]]
x = 1
[[many]]
x = 2
[many.below]
y = 1
[[many.deep]]
z = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("include", 2),
        ("include[1]", 2),
        ("gateway", 3),
        ("gateway.name", 3),
        ('gateway."drain.timeout"', 4),
        ("routes", 6),
        ("routes.x", 6),
        ("routes.x.path", 7),
        ("routes.x.reply.status", 10),
        ("routes.x.reply.headers.x-y", 10),
        ('routes."a.b"."c d"', 11),
        ("upstreams.u.targets", 13),
        ("upstreams.u.targets[0].address", 14),
        ("upstreams.u.targets[1].address", 16),
        ("many", 18),
        ("many[0].x", 19),
        ("many[1]", 20),
        ("many[1].x", 21),
        ("many[1].below", 22),
        ("many[1].below.y", 23),
        ("many[1].deep[0].z", 25),
    ],
)
def test_each_option_is_placed(path, line):
    assert lines(TEXT)[split(path)] == line


def test_nothing_else_is_placed():
    assert set(lines(TEXT)) == set(every(tomllib.loads(TEXT.decode())))


def every(value: object, above: Key = ()) -> list[Key]:
    """The keys of everything in plain data."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = list(enumerate(value)) if isinstance(value, list) else []
    return [key for name, item in pairs for key in [(*above, name), *every(item, (*above, name))]]


NAMES = st.from_regex(r"[a-z]{1,3}|\"[a-z .]{1,4}\"", fullmatch=True)


@given(st.lists(st.tuples(NAMES, NAMES), unique=True, max_size=8))
def test_every_table_stands_at_its_header(names):
    text = "".join(f"[{first}.{second}]\nvalue = 1\n" for first, second in names)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = lines(text.encode())
    for index, (first, second) in enumerate(names):
        assert found[first.strip('"'), second.strip('"'), "value"] == index * 2 + 2
