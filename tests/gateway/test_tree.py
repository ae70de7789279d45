"""Tables: what is laid out where, and that all ways through them agree."""

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.gateway.template import parse_template
from gatewayd.gateway.tree import Entry, Table, chain

from .oracle import path_key, path_params, request

GET = frozenset((b"GET", b"HEAD"))


def entry(name: str, methods: frozenset[bytes] = GET) -> Entry:
    """A route called and valued `name`."""
    return Entry(name, name, methods, methods)


def table(*paths: str) -> Table:
    """A table of GET routes named by their paths."""
    made = Table()
    for path in paths:
        template = parse_template(path, path)
        made_entry = entry(path)
        made_entry.names = template.names
        made.insert(template, made_entry, {})
    made.close()
    return made


def test_paths_without_parameters_are_one_lookup():
    made = table("/", "/a", "/a/b/")
    assert list(made.static) == [b"/", b"/a", b"/a/b/"]
    assert made.root is None
    assert not made.heads


def test_a_parameter_at_the_end_is_one_lookup():
    made = table("/a/{x}", "/{y}", "/a/b/{z}")
    assert sorted(made.heads) == [b"/", b"/a/", b"/a/b/"]
    assert made.root is None


def test_what_is_more_specific_than_the_parameter_keeps_it_in_the_tree():
    assert list(table("/a/{x}", "/a/{x:int}", "/b/{x}").heads) == [b"/b/"]
    assert list(table("/a/{x}", "/a/b/{rest*}").heads) == []
    assert list(table("/a/{x}", "/a/{x}/c", "/a/{rest*}").heads) == [b"/a/"]


def test_a_table_forks_where_a_way_down_is_not_the_only_one():
    assert not table("/a/{x}/b", "/a/{x}/b/{y}", "/a/{x}/c", "/b/{x}/*").forks
    for paths in (
        ("/a/{x}/b", "/a/b/{y}/c"),
        ("/{x}/b/*", "/*"),
        ("/{x}/{y:int}", "/{x}/{y:slug}"),
        ("/{x}/y", "/{x}/*"),
    ):
        assert table(*paths).forks


def test_entries_of_one_place_are_in_order():
    made = Table()
    template = parse_template("/a", "")
    ranks = [(0, 0, True, True), (-1, 0, False, True), (0, 0, False, True), (-1, -1, True, True)]
    for at, rank in enumerate(ranks):
        one = entry(str(at))
        one.rank = rank
        others = made.insert(template, one, {})
        assert sorted(other.name for other in others) == [str(number) for number in range(at)]
    assert [one.name for one in chain(made.static[b"/a"])] == ["3", "1", "2", "0"]


def test_equal_literals_are_kept_once():
    interned: dict[bytes, bytes] = {}
    made = Table()
    for path in ("/a/{x}/notes", "/b/{x}/notes"):
        made.insert(parse_template(path, ""), entry(path), interned)
    names = [next(iter(made.root.literals[start].parameter.literals)) for start in (b"a", b"b")]
    assert names[0] is names[1]


def test_candidates():
    made = table("/a/b", "/a/{x}", "/{y}/b", "/a/{r*}", "/{s*}")
    assert [(one.name, values) for one, values in made.candidates(b"/a/b")] == [
        ("/a/b", ()),
        ("/a/{x}", (b"b",)),
        ("/a/{r*}", (b"b",)),
        ("/{y}/b", (b"a",)),
        ("/{s*}", (b"a/b",)),
    ]
    assert [one.name for one, _ in made.candidates(b"/a/")] == ["/a/{r*}", "/{s*}"]
    assert made.candidates(b"*") == []
    assert made.candidates(b"") == []


PIECES = st.sampled_from(["a", "b", "{p}", "{p:int}", "{p}.x", "1"])
TEMPLATES = st.builds(
    lambda pieces, tail: "".join(f"/{piece.replace('p', f'p{at}')}" for at, piece in enumerate(pieces)) + tail or "/",
    st.lists(PIECES, max_size=4),
    st.sampled_from(["", "", "/", "/{rest*}"]),
)
WORDS = st.lists(st.sampled_from([b"a", b"b", b"1", b"a.x", b"2", b""]), min_size=1, max_size=5)


@given(st.lists(TEMPLATES, min_size=1, max_size=8, unique_by=lambda path: str(path_key(path)) + path), WORDS)
def test_every_way_through_a_table_agrees(paths, words):
    path = b"/" + b"/".join(words)
    made = table(*paths)
    expected = sorted((path_key(one), one) for one in paths if path_params(one, path) is not None)
    found = made.candidates(path)
    assert [one.name for one, _ in found] == [one for _, one in expected]
    for one, values in found:
        assert dict(zip(one.names, values, strict=True)) == path_params(one.name, path)
    first = made.search(request(path=path), b"GET")
    assert (first and first.name) == (expected[0][1] if expected else None)
    in_tree = [
        one for one, _ in found if one.name not in {each.name for each in (*made.static.values(), *made.heads.values())}
    ]
    if len(in_tree) == len(found):
        assert made.walk(request(path=path), b"GET") is first
    assert made.search(request(path=path), b"PUT") is None
    assert made.walk(request(path=path), b"PUT") is None
