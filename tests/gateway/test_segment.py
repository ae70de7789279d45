"""Segments: what each kind takes, and the two relations between them, compared with trying them out."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.gateway.segment import Pattern, are_disjoint, is_kind, is_narrower, make_pattern

UUID = b"0b9c4fd2-7e37-4b87-9f9f-7d7B0F6d1c11"


@pytest.mark.parametrize(
    ("prefix", "kind", "regex", "suffix", "takes", "refuses"),
    [
        (b"", "int", "", b"", {b"0": b"0", b"007": b"007"}, [b"-1", b"1.0", b"a", "²".encode()]),
        (b"", "uuid", "", b"", {UUID: UUID}, [UUID[:-1], UUID + b"0", UUID.replace(b"-", b"")]),
        (b"", "slug", "", b"", {b"a-B_9": b"a-B_9"}, [b"a.b", b"a%20", b"a b\n"]),
        (b"", "any", "", b".pdf", {b"a.pdf": b"a", b"..pdf": b"."}, [b".pdf", b"a.pdF", b"a.pdfx"]),
        (b"v", "int", "", b"", {b"v1": b"1"}, [b"v", b"1", b"va"]),
        (b"ab", "any", "", b"ba", {b"ab1ba": b"1", b"abab" + b"ba": b"ab"}, [b"aba", b"abba"]),
        (b"", "regex", "[0-9]{4}|x", b"", {b"1999": b"1999", b"x": b"x"}, [b"199", b"19990", b"xx", b"1999x"]),
        (b"n-", "regex", "(?i)a+", b"", {b"n-aA": b"aA"}, [b"n-", b"N-a"]),
    ],
)
def test_what_a_segment_takes(prefix, kind, regex, suffix, takes, refuses):
    pattern = make_pattern(prefix, kind, regex, suffix)
    assert {segment: pattern.take(segment) for segment in takes} == takes
    assert [pattern.take(segment) for segment in refuses] == [None] * len(refuses)


def test_kinds():
    assert [kind for kind in ("int", "uuid", "slug", "regex", "any", "str") if is_kind(kind)] == ["int", "uuid", "slug"]


@pytest.mark.parametrize("regex", ["(", "a{2000}", "(?=a)", r"(a)\1", "[z-a]"])
def test_regexes_that_cannot_run_in_linear_time_or_at_all_are_refused(regex, capfd):
    with pytest.raises(ValueError, match=r"\w"):
        make_pattern(b"", "regex", regex, b"")
    assert not capfd.readouterr().err


def test_equal_patterns_are_equal():
    assert make_pattern(b"v", "int", "", b"") == make_pattern(b"v", "int", "", b"")
    assert make_pattern(b"", "regex", "a", b"") != make_pattern(b"", "regex", "b", b"")
    assert str(make_pattern(b"v", "regex", "a+", b".x")) == "v{…:/a+/}.x"
    assert [str(make_pattern(b"", kind, "", b"x")) for kind in ("int", "any")] == ["{…:int}x", "{…}x"]


TEXTS = st.sampled_from([b"", b"", b"1", b"a", b"a1", b".", b"-a", b"1."])
PATTERNS = st.builds(
    make_pattern, TEXTS, st.sampled_from(["int", "slug", "uuid", "any"]), st.just(""), TEXTS
) | st.builds(make_pattern, TEXTS, st.just("regex"), st.sampled_from(["[ab]+", "1.*", "a|b", ".?"]), TEXTS)
TRIED = [bytes(text) for count in range(1, 6) for text in product(b"1a.-", repeat=count)] + [
    UUID,
    UUID + b".",
    b"a" + UUID,
]


@given(PATTERNS, PATTERNS)
def test_narrower_and_disjoint_are_true_whenever_they_are_said(one, other):
    mine = {segment for segment in TRIED if one.take(segment) is not None}
    its = {segment for segment in TRIED if other.take(segment) is not None}
    if is_narrower(one, other):
        assert mine <= its
        assert one.order <= other.order
    if are_disjoint(one, other):
        assert not mine & its
    assert are_disjoint(one, other) == are_disjoint(other, one)


def pattern(text: str) -> Pattern:
    """`v{int}.x` in short."""
    prefix, _, rest = text.partition("{")
    kind, _, suffix = rest.rpartition("}")
    is_regex = kind.startswith("/")
    return make_pattern(
        prefix.encode(), "regex" if is_regex else kind, kind.strip("/") if is_regex else "", suffix.encode()
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{int}", "{slug}"), ("{uuid}", "{slug}"), ("v{int}", "{slug}"), ("v{int}", "v{slug}"), ("v{slug}", "v{any}"),
        ("{any}.tar.gz", "{any}.gz"), ("v{any}.x", "v{any}"), ("1{int}", "{int}"), ("v{/a+/}.x", "v{any}"),
    ],
)  # fmt: skip
def test_narrower(one, other):
    assert is_narrower(pattern(one), pattern(other))
    assert not is_narrower(pattern(other), pattern(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{int}", "{uuid}"), ("{int}", "{any}.x"), ("v{int}", "{any}.x"), ("v{any}", "w{any}"), ("{any}.x", "{any}.y"),
        ("v{any}", "{int}"), ("{/v[0-9]+/}", "{/w[0-9]+/}"), ("{/v[0-9]+/}", "{int}"), ("{/[ab]+/}x", "c{any}"),
    ],
)  # fmt: skip
def test_disjoint(one, other):
    assert are_disjoint(pattern(one), pattern(other))


@pytest.mark.parametrize(("one", "other"), [("{/.*x/}", "{slug}"), ("v{any}", "{slug}"), ("x{any}", "{any}.pdf")])
def test_neither(one, other):
    first, second = pattern(one), pattern(other)
    assert not any((is_narrower(first, second), is_narrower(second, first), are_disjoint(first, second)))
