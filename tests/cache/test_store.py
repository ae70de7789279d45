"""The store: its bounds, what gets in, what stays."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.cache import store as module
from gatewayd.cache.store import Store

from .entries import entry, key

SIZE = entry(body=b"").size


def sound(store):
    """Every count agrees with what is there."""
    there = [each for shelf in store.shelves.values() for each in shelf]
    assert all(store.shelves.values())
    assert len(there) == len(store) == len(set(map(id, there)))
    assert store.size == sum(each.size for each in there) <= store.limit
    assert store._small_size == sum(each.size for each in store._small)
    assert set(store._tagged) == {tag for each in there for tag in each.tags}
    assert all(each in store._tagged[tag] for each in there for tag in each.tags)


def holding(*paths, limit=1 << 20):
    store = Store(limit)
    for path in paths:
        store.put(entry(path))
    return store


def test_what_is_put_is_there():
    store = holding(b"/a", b"/b")
    assert store.shelves[key(b"/a")][0].body == b"body"
    assert len(store) == 2
    sound(store)


def test_a_newer_reply_replaces_the_variant_it_is_of():
    store = Store(1 << 20)
    german, english = ({"vary": (b"l",), "selected": (value,)} for value in (b"de", b"en"))
    for body, variant in ((b"1", german), (b"2", english), (b"3", german)):
        store.put(entry(body=body, **variant))
    assert [each.body for each in store.shelves[key()]] == [b"3", b"2"]
    sound(store)


def test_variants_are_bounded():
    store = Store(1 << 24)
    for number in range(module.VARIANTS + 9):
        store.put(entry(vary=(b"x",), selected=(b"%d" % number,)))
    shelf = store.shelves[key()]
    assert len(shelf) == module.VARIANTS
    assert shelf[0].selected == (b"%d" % (module.VARIANTS + 8),)
    sound(store)


def test_what_is_larger_than_all_room_is_not_taken():
    store = Store(SIZE)
    store.put(entry(body=b"x"))
    assert len(store) == 0


def test_removing_twice_does_no_harm():
    store = holding(b"/a")
    (found,) = store.shelves[key(b"/a")]
    store.remove(found)
    store.remove(found)
    assert not store.holds(found)
    sound(store)


def test_less_room_makes_room():
    store = holding(*[b"/%d" % n for n in range(20)])
    store.limit = 5 * SIZE + 100
    assert 0 < len(store) <= 5
    sound(store)


def test_a_scan_does_not_get_through():
    """Fifty replies that are asked for stay; ten thousand that are asked for once do not push them out."""
    store = Store(100 * (SIZE + 20))
    chance = random.Random(7)
    wanted = [b"/wanted/%d" % n for n in range(50)]

    def ask(path):
        shelf = store.shelves.get(key(path))
        if shelf:
            shelf[0].hits = min(3, shelf[0].hits + 1)
            return 1
        store.put(entry(path))
        return 0

    for _ in range(1000):
        ask(chance.choice(wanted))
    hits = 0
    for number in range(10_000):
        ask(b"/scan/%d" % number)
        hits += ask(chance.choice(wanted))
    assert hits > 9_800
    sound(store)


def test_what_comes_back_soon_is_taken_for_good():
    store = Store(20 * (SIZE + 20))
    for number in range(40):
        store.put(entry(b"/%02d" % number))
    assert key(b"/00") not in store.shelves
    store.put(entry(b"/00"))
    for number in range(100, 400):
        store.put(entry(b"/%d" % number))
    assert key(b"/00") in store.shelves
    sound(store)


def test_memory_of_the_dropped_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "GHOSTS", 10)
    store = Store(SIZE + 100)
    for number in range(100):
        store.put(entry(b"/%d" % number))
    assert len(store._ghosts) == 10


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "hit", "remove", "limit", "tag", "prefix"]),
            st.integers(0, 12),
            st.integers(0, 4000),
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_counts_agree(steps):
    store = Store(12_000)
    for what, number, size in steps:
        path = b"/%d" % number
        shelf = store.shelves.get(key(path), [])
        if what == "put":
            variant = {"vary": (b"v",), "selected": (b"%d" % (size % 3),)} if number % 2 else {}
            store.put(entry(path, b"x" * size, tags=(b"t%d" % (number % 3), b"all"), **variant))
        elif what == "hit" and shelf:
            shelf[0].hits = min(3, shelf[0].hits + 1)
        elif what == "remove" and shelf:
            store.remove(shelf[-1])
        elif what == "limit":
            store.limit = 4000 + size * 3
        elif what == "tag":
            store.purge("tag", f"t{number % 3}")
        elif what == "prefix":
            store.purge("prefix", f"/{number}")
        sound(store)


def urls(store):
    return sorted(key[4] for key in store.shelves)


@pytest.mark.parametrize(
    ("kind", "value", "left"),
    [
        ("url", "http://test/a", [b"/a", b"/a/b", b"/c"]),
        ("url", "HTTP://TEST/a", [b"/a", b"/a/b", b"/c"]),
        ("url", "test/a", [b"/a", b"/a/b", b"/c"]),
        ("url", "/a", [b"/a", b"/a/b", b"/c"]),
        ("url", "/a?q", [b"/a", b"/a/b", b"/c"]),
        ("url", "/A", [b"/a", b"/a", b"/a/b", b"/c"]),
        ("url", "https://test/a", [b"/a", b"/a", b"/a/b", b"/c"]),
        ("prefix", "/a", [b"/c"]),
        ("prefix", "/a/", [b"/a", b"/a", b"/c"]),
        ("prefix", "http://test/", []),
        ("prefix", "other", [b"/a", b"/a", b"/a/b", b"/c"]),
        ("tag", "x", [b"/a", b"/a", b"/a/b"]),
        ("all", "", []),
    ],
)
def test_purging(kind, value, left):
    store = holding(b"/a", b"/a/b")
    store.put(entry(key=key(b"/a", query=b"q")))
    store.put(entry(b"/c", tags=(b"x",)))
    assert store.purge(kind, value) == 4 - len(left)
    assert urls(store) == left
    assert store.purges == 1
    sound(store)


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="colour"):
        holding(b"/a").purge("colour", "red")
