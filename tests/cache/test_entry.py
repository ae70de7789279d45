"""A stored reply."""

from __future__ import annotations

from gatewayd.cache.entry import LONGEST_SPELLING, SPELLINGS

from .entries import entry, key


def suits(stored, *headers):
    return stored.suits(dict(headers), list(headers))


def test_times():
    stored = entry(age=10.0, lifetime=60.0)
    assert (stored.born, stored.fresh_until, stored.fresh_for(1000.0)) == (990.0, 1050.0, 50.0)
    assert stored.fresh_for(1055.0) == -5.0


def test_what_is_never_stale():
    assert not entry().stale_forbidden
    assert entry(must_revalidate=True).stale_forbidden
    assert entry(no_cache=True).stale_forbidden
    assert entry(no_cache=True).needs_check


def test_the_size_counts_everything_a_caller_may_make_long():
    least = entry(body=b"").size
    assert entry(body=b"x" * 99).size == least + 99
    assert entry(body=b"", key=key(b"/" + b"x" * 99)).size == least + 99
    assert entry(body=b"", key=key(query=b"x" * 99)).size == least + 99
    assert entry(body=b"", vary=(b"a",), selected=(b"x" * 99,)).size == least + 99
    assert entry(body=b"", tags=(b"x" * 99,)).size == least + 99
    assert entry(body=b"", headers=[(b"content-type", b"x" * 109)]).size == least + 99


def test_vary():
    stored = entry(vary=(b"a", b"b"), selected=(b"1", None))
    assert suits(stored, (b"a", b"1"), (b"c", b"2"))
    assert suits(stored, (b"a", b"1"), (b"c", b"3"))  # the second time from memory
    assert suits(stored, (b"a", b" 1 "))
    assert not suits(stored, (b"a", b"2"))
    assert not suits(stored, (b"a", b"1"), (b"b", b"2"))
    assert not suits(stored, (b"a", b"2"), (b"a", b"1"))
    assert suits(entry(), (b"a", b"2"))


def test_spellings_that_are_remembered_are_bounded():
    stored = entry(vary=(b"accept-language",), selected=(b"de,en",))
    for spaces in range(50):
        assert suits(stored, (b"accept-language", b"de," + b" " * spaces + b"en"))
    assert len(stored.spellings) == SPELLINGS
    other = entry(vary=(b"a",), selected=(b"x" * 300,))
    assert suits(other, (b"a", b"x" * 300))
    assert LONGEST_SPELLING < 300
    assert not other.spellings


def test_its_repr_shows_nothing_of_anyones():
    assert "secret" not in repr(entry(body=b"secret", headers=[(b"x", b"secret")]))
