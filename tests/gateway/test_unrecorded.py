"""What is not on record cannot be used, and nobody can mistake that for a failure of his own."""

from __future__ import annotations

import pytest

from gatewayd.gateway.unrecorded import NotOnRecord, Partly, Unrecorded


@pytest.fixture
def thing():
    return Unrecorded("the thing")  # pytest looks at what stands in a module, and that is a use


@pytest.mark.parametrize(
    "use",
    [
        bool, len, iter, list, hash, str, int, float, bytes, repr,
        lambda it: it == 1, lambda it: it != b"", lambda it: it < 1, lambda it: it in (1, 2), lambda it: 1 in it,
        lambda it: it[0], lambda it: it.items(), lambda it: it.read_body(None), lambda it: {it: 1},
        lambda it: {}.get(it),
        lambda it: it + b"", lambda it: b"" + it, lambda it: frozenset("a") <= it, lambda it: frozenset("a") & it,
        lambda it: f"{it}", lambda it: b"%b" % it, lambda it: it(), lambda it: it & 1,
    ],
)  # fmt: skip
def test_any_use_tells_what_is_missing(use, thing):
    if use is repr:
        assert repr(thing) == "<the thing: not on record>"
        return
    with pytest.raises(NotOnRecord) as raised:
        use(thing)
    assert raised.value.what == "the thing"


def test_who_fails_open_does_not_catch_it(thing):
    with pytest.raises(NotOnRecord):
        try:
            thing.get("a")
        except Exception:
            pytest.fail("it was taken for a failure")


def test_it_can_be_handed_on(thing):
    kept = [thing, None]
    assert kept[0] is thing
    assert thing is not None


def test_headers_of_which_some_are_on_record():
    headers = Partly([(b"a", b"1"), (b"b", b"2")], "headers")
    assert next(value for name, value in headers if name == b"b") == b"2"
    with pytest.raises(NotOnRecord, match="headers"):
        dict(headers)
    with pytest.raises(NotOnRecord):
        headers.append((b"c", b"3"))
