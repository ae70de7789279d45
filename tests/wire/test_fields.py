"""Header lines: read strictly, remembered within bounds, the same the second time."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatewayd.wire.fields import LONGEST, MEMORY, Field, FieldLines, Withheld, has_bare_line_end


def sort(name: bytes) -> type[Withheld] | None:
    return Withheld if name.startswith(b"w-") else None


def look(lines: FieldLines, line: bytes) -> Field:
    """The field a line stands for, as the wire asks for it."""
    return lines.known.get(line) or lines.read(line)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"X-A: b", (b"x-a", b"b")),
        (b"X-A:b", (b"x-a", b"b")),
        (b"X-A: \t b c \t ", (b"x-a", b"b c")),
        (b"X-A:", (b"x-a", b"")),
        (b"X-A: b: c", (b"x-a", b"b: c")),
        (b"X-A: \xe4\xff", (b"x-a", b"\xe4\xff")),
        (b"X-A: a\tb", (b"x-a", b"a\tb")),
        (b"!#$%&'*+-.^_`|~09Az: b", (b"!#$%&'*+-.^_`|~09az", b"b")),
    ],
)
def test_a_line_is_a_name_and_a_value(line: bytes, field: Field) -> None:
    lines = FieldLines(sort)
    for _ in range(2):
        assert look(lines, line) == field
        assert look(lines, line).__class__ is tuple


@pytest.mark.parametrize(
    "line",
    [b"", b":", b": b", b"X-A", b"X-A : b", b" X-A: b", b"\tX-A: b", b"X A: b", b"X\xe4: b", b"X-A: \x00", b"X-A: a\rb",
     b"X-A: a\nb", b"X-A: \x7f", b"X-A: \x1b", b"X(A): b", b"X-A\x00: b", b'"X": b', b"X/A: b", b"X@A: b", b"X[: b"],
)  # fmt: skip
def test_a_line_that_is_no_field_is_refused_each_time(line: bytes) -> None:
    lines = FieldLines(sort)
    for _ in range(2):
        with pytest.raises(ValueError):
            look(lines, line)
    assert lines.known == {}


@given(st.binary(max_size=20))
@example(b"a: b\x80")
def test_what_h11_reads_differently_is_refused(line: bytes) -> None:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\n" + line + b"\r\n\r\n")
    try:
        field = FieldLines(sort).read(line)
    except ValueError:
        return
    try:
        event = parser.next_event()
    except h11.RemoteProtocolError:
        assert field[0] in (b"host", b"content-length", b"transfer-encoding"), "h11 does not read this line"
        return
    assert isinstance(event, h11.Request)
    assert list(event.headers)[1:] == [field]


def test_what_is_withheld_has_a_kind_of_its_own() -> None:
    lines = FieldLines(sort)
    for _ in range(2):
        assert look(lines, b"W-A: b") == (b"w-a", b"b")
        assert look(lines, b"W-A: b").__class__ is Withheld


def test_the_memory_is_bounded_and_forgets_all_at_once() -> None:
    lines = FieldLines(sort)
    for number in range(MEMORY):
        look(lines, b"X-%d: b" % number)
    assert len(lines.known) == MEMORY
    look(lines, b"X-one-more: b")
    assert list(lines.known) == [b"X-one-more: b"]
    assert len(lines._names) <= MEMORY
    for number in range(3 * MEMORY):
        look(lines, b"Y-%d: b" % number)
        assert len(lines.known) <= MEMORY
    assert len(lines._names) <= MEMORY


def test_long_lines_and_names_are_not_remembered() -> None:
    lines = FieldLines(sort)
    look(lines, b"X-A: " + b"b" * LONGEST)
    look(lines, b"X-" + b"a" * LONGEST + b": b")
    assert lines.known == {}
    assert list(lines._names) == [b"X-A"]


@pytest.mark.parametrize("name", [b"Authorization", b"COOKIE", b"set-cookie", b"X-Api-Key", b"Proxy-Authorization"])
def test_credentials_are_not_remembered(name: bytes) -> None:
    lines = FieldLines(sort)
    assert look(lines, name + b": secret")[1] == b"secret"
    assert lines.known == {}


_pieces = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"bc: d"]), max_size=8).map(b"".join)


@given(_pieces, st.data())
@example(b"a\r\nb", None)
def test_a_line_end_that_stands_alone_is_found_however_it_comes(wire: bytes, data: st.DataObject | None) -> None:
    expected = re.search(rb"\r(?!\n|\Z)|(?<!\r)\n", wire) is not None
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=3))) if data is not None else []
    found, judged = False, 0
    for end in [*cuts, len(wire)]:
        if end > judged:
            found = found or has_bare_line_end(wire[:end], judged)
            judged = end
    assert found is expected
