"""traceparent and tracestate: what is read, what is dropped, and what goes on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.trace_context import (
    LONGEST,
    MEMBERS,
    Parent,
    reaches,
    read_traceparent,
    read_tracestate,
    sampling_state,
    threshold,
    without_key,
    write_traceparent,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEX = "0123456789abcdef"


def written(version: str = "00", trace: str = TRACE, span: str = SPAN, flags: str = "01", more: str = "") -> bytes:
    """A traceparent of these parts, right or wrong."""
    return f"{version}-{trace}-{span}-{flags}{more}".encode()


@pytest.mark.parametrize(
    ("flags", "sampled", "random"),
    [("00", False, False), ("01", True, False), ("02", False, True), ("03", True, True), ("ff", True, True)],
)
def test_flags(flags, sampled, random):
    assert read_traceparent(written(flags=flags)) == Parent(TRACE, SPAN, sampled, random)


@pytest.mark.parametrize("value", [written("01"), written("cc"), written("fe", more="-and-more-01")])
def test_of_versions_to_come_what_is_known_is_read(value):
    assert read_traceparent(value) == Parent(TRACE, SPAN, True, False)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        written("ff"),
        written("0"),
        written("000"),
        written(".0"),
        written("0G"),
        written("00", more="-"),
        written("00", more="."),
        written("00", more="-more"),
        written("cc", more=".more"),
        written("cc", more="0"),
        written(trace="0" * 32),
        written(trace=TRACE[1:]),
        written(trace=TRACE + "0"),
        written(trace="." + TRACE[1:]),
        written(trace=TRACE.upper()),
        written(span="0" * 16),
        written(span=SPAN[1:]),
        written(span=SPAN + "0"),
        written(span=SPAN.upper()),
        written(span=SPAN[:-1] + "_"),
        written(flags="1"),
        written(flags="001"),
        written(flags="0F"),
        written(flags=".0"),
        written().replace(b"-", b"_"),
        b" " + written(),
        written() + b"\n",
        written() + b"," + written(),
        "00-４bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".encode(),
        b"\xff" * 55,
    ],
)
def test_what_is_malformed_is_none(value):
    assert read_traceparent(value) is None


@given(st.binary(max_size=80) | st.text(HEX + "-", max_size=70).map(str.encode))
def test_nothing_breaks_it_and_what_it_reads_could_be_written(value):
    found = read_traceparent(value)
    if found is not None:
        assert write_traceparent(*found)[3:-2] == value[3:53]
        assert read_traceparent(write_traceparent(*found)) == found


def ids(digits: int) -> st.SearchStrategy[str]:
    """Identifiers that are not all zeros."""
    return st.text(HEX, min_size=digits, max_size=digits).filter(lambda text: text.strip("0"))


@given(ids(32), ids(16), st.booleans(), st.booleans())
def test_what_is_written_is_read_again(trace_id, span_id, sampled, random):
    value = write_traceparent(trace_id, span_id, sampled, random)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", value)
    assert read_traceparent(value) == (trace_id, span_id, sampled, random)


EVERY = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")
"""Every character that a value may have."""


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([b"foo=1"], "foo=1"),
        ([b"foo=1,bar=2"], "foo=1,bar=2"),
        ([b"foo=1", b"bar=2,baz=3"], "foo=1,bar=2,baz=3"),
        ([b"foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        ([b"foo=1", b""], "foo=1"),
        ([b"", b"foo=1"], "foo=1"),
        ([b" , ,foo=1,\t"], "foo=1"),
        ([b""], ""),
        ([b"foo=  1"], "foo=  1"),
        ([b"0tenant@system=x"], "0tenant@system=x"),
        ([b"a_-*/@9=1"], "a_-*/@9=1"),
        ([f"all={EVERY}".encode()], f"all={EVERY}"),
        ([b"k" * 256 + b"=1"], "k" * 256 + "=1"),
        ([b"foo=" + b"v" * 256], "foo=" + "v" * 256),
    ],
)
def test_members_go_on_in_their_order_without_what_surrounds_them(values, state):
    assert read_tracestate(values) == state


@pytest.mark.parametrize(
    "values",
    [
        [b"foo"],
        [b"foo="],
        [b"=1"],
        [b"foo =1"],
        [b"FOO=1"],
        [b"foo.bar=1"],
        [b"@foo=1"],
        [b"_foo=1"],
        [b"foo=1=2"],
        [b"foo=\t1"],
        [b"foo=\xc3\xa4"],
        [b"foo=a\x7f"],
        [b"k" * 257 + b"=1"],
        [b"foo=" + b"v" * 257],
        [b"foo=1,foo=1"],
        [b"foo=1,foo=2"],
        [b"foo=1", b"bar=1", b"foo=2"],
        [b"good=1,bad"],
    ],
)
def test_one_bad_member_spoils_all(values):
    assert read_tracestate(values) == ""


def test_the_limit_of_members():
    members = [f"k{number}=v" for number in range(MEMBERS + 1)]
    assert read_tracestate([",".join(members[:MEMBERS]).encode()]) == ",".join(members[:MEMBERS])
    assert read_tracestate([",".join(members).encode()]) == ""


def sized(key: str, length: int) -> str:
    """A member of so many characters."""
    return f"{key}=" + "v" * (length - len(key) - 1)


def test_a_long_state_loses_its_large_members_first_and_then_its_end():
    large = [sized("a", 200), sized("b", 129), sized("c", 200), sized("d", 20)]
    assert read_tracestate([",".join(large).encode()]) == ",".join([large[0], large[1], large[3]])
    small = [sized(key, 128) for key in "abcde"]
    assert read_tracestate([",".join(small).encode()]) == ",".join(small[:3])
    exact = [*small[:3], sized("d", LONGEST - 3 * 129)]
    assert read_tracestate([",".join(exact).encode()]) == ",".join(exact)


@given(
    st.lists(st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")), max_size=4)
    | st.lists(st.binary(max_size=100))
)
def test_no_state_breaks_it_and_none_is_too_long(values):
    state = read_tracestate(values)
    assert len(state) <= LONGEST
    assert read_tracestate([state.encode()]) == state


_keys = st.from_regex(r"[a-z0-9][a-z0-9_\-*/@]{0,40}", fullmatch=True)
_values = st.text(EVERY, min_size=1, max_size=150).filter(lambda text: not text.endswith(" "))


@given(st.dictionaries(_keys, _values, max_size=12))
def test_a_valid_state_goes_on_whole_or_cut_to_whole_members(pairs):
    members = [f"{key}={value}" for key, value in pairs.items()]
    text = ",".join(members)
    left = read_tracestate([text.encode()])
    assert left == text if len(text) <= LONGEST else set(left.split(",")) - {""} < set(members)


def test_a_key_taken_out():
    assert without_key("ot=th:8,foo=1", "ot") == "foo=1"
    assert without_key("foo=1,ot=th:8,bar=2", "ot") == "foo=1,bar=2"
    assert without_key("ot=th:8", "ot") == ""
    assert without_key("foo=1,robot=2", "ot") == "foo=1,robot=2"


@pytest.mark.parametrize(
    ("share", "least", "said"),
    [
        (1.0, "0" * 14, "ot=th:0"),
        (0.5, "80000000000000", "ot=th:8"),
        (0.25, "c0000000000000", "ot=th:c"),
        (0.0, "", ""),
    ],
)
def test_thresholds(share, least, said):
    assert threshold(share) == least
    assert not said or sampling_state(least) == said


@given(st.floats(0, 1), ids(32))
def test_a_trace_is_sampled_where_its_last_56_bits_say_so(share, trace_id):
    assert reaches(trace_id, threshold(share)) == (int(trace_id[-14:], 16) >= round((1 - share) * 2**56))


def test_the_share_is_about_what_it_says():
    ids_evenly = [f"{'0' * 18}{(2 * number + 1) * 2**55 // 1000:014x}" for number in range(1000)]
    assert sum(reaches(each, threshold(0.1)) for each in ids_evenly) == 100
