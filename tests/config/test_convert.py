"""Plain data against types: every fault found, each with what would be allowed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, field

from gatewayd.config.convert import convert_policy, convert_table, walk_table
from gatewayd.config.faults import Faults
from gatewayd.config.model import Document, File
from gatewayd.config.sources import Sources
from gatewayd.config.units import Duration, Rate, Size


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    """A table in a table."""

    name: str
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """One option of each kind."""

    needed: str
    flag: bool = False
    count: Annotated[int, Meta(ge=1)] = 1
    wait: Annotated[Duration, Meta(extra={"gt": 0})] = Duration(1)
    size: Size = Size(1)
    rate: Rate = Rate(1)
    word: Annotated[str, Meta(pattern="^[a-z]+$", min_length=2, max_length=4)] = "ab"
    mode: Literal["open", "closed"] = "open"
    workers: Annotated[int, Meta(ge=1)] | Literal["auto"] = "auto"
    inner: Inner | None = None
    tables: dict[Annotated[str, Meta(pattern="^[a-z]+$")], Inner] = {}
    items: Annotated[list[Inner], Meta(min_length=1, max_length=2)] = field(default_factory=list)
    names: set[str] = set()
    free: dict[str, Any] = {}
    file: File = ""


FULL = {
    "needed": "x",
    "flag": True,
    "count": 3,
    "wait": "1m",
    "size": 5,
    "rate": "1/m",
    "word": "abc",
    "mode": "closed",
    "workers": 2,
    "inner": {"name": "a", "share": 1},
    "tables": {"a": {"name": "b"}},
    "items": [{"name": "c"}],
    "names": ["a"],
    "free": {"a": [1, {"b": 2.5}], "c": True},
    "file": "x.pem",
}


def faults_of(**change: Any) -> list[str]:
    """The faults of a table that is right but for `change`."""
    _, faults = convert_table(Table, FULL | change, "t", quiet())
    return [str(fault) for fault in faults]


def quiet() -> Sources:
    """Sources that know nothing, so that values are shown."""
    return Sources("conf.toml")


def test_what_is_right_becomes_the_struct():
    value, faults = convert_table(Table, FULL, "t")
    assert not faults
    assert value == Table(
        "x",
        True,
        3,
        Duration(60),
        Size(5),
        Rate(1, 60),
        "abc",
        "closed",
        2,
        Inner("a", 1.0),
        {"a": Inner("b")},
        [Inner("c")],
        {"a"},
        {"a": [1, {"b": 2.5}], "c": True},
        "x.pem",
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"flag": 1}, "t.flag: wrong type; found 1; allowed: true or false"),
        ({"count": 0}, "t.count: out of range; found 0; allowed: a whole number, at least 1"),
        ({"count": True}, "t.count: wrong type; found true; allowed: a whole number, at least 1"),
        ({"count": 1.0}, "t.count: wrong type; found 1.0; allowed: a whole number, at least 1"),
        ({"wait": "0s"}, "t.wait: out of range"),
        ({"count": 10**19}, "t.count: too large for 64 bits"),
        ({"wait": "1x"}, "t.wait: is not a duration"),
        ({"size": []}, "t.size: is neither a number nor a text; found an empty list"),
        ({"rate": "5"}, "t.rate: is no rate: its unit is missing"),
        ({"word": 1}, "t.word: wrong type; found 1; allowed: a text"),
        ({"word": "AB"}, "t.word: not a valid value"),
        ({"word": "abc\n"}, "t.word: not a valid value"),
        ({"word": "a"}, "t.word: too short"),
        ({"word": "abcde"}, "t.word: too long"),
        ({"mode": "close"}, 'allowed: "closed", "open" (did you mean "closed"?)'),
        ({"mode": 1}, 't.mode: not allowed; found 1; allowed: "closed", "open"'),
        ({"workers": 0}, 't.workers: out of range; found 0; allowed: a whole number, at least 1 or "auto"'),
        ({"workers": "all"}, 't.workers: not allowed; found "all"'),
        ({"inner": 1}, "t.inner: wrong type; found 1; allowed: a table"),
        ({"inner": {}}, "t.inner.name: missing; allowed: a text"),
        ({"inner": {"name": "a", "share": 1.1}}, "t.inner.share: out of range; found 1.1"),
        ({"inner": {"name": "a", "share": float("nan")}}, "t.inner.share: wrong type; found nan"),
        (
            {"inner": {"name": "a", "nam": 1}},
            't.inner.nam: unknown option; allowed: name, share (did you mean "name"?)',
        ),
        ({"tables": []}, "t.tables: wrong type; found an empty list; allowed: a table"),
        ({"tables": {"A": {"name": "x"}}}, 't.tables.A: not a valid name; found "A"'),
        ({"tables": {"a": {"name": 1}}}, "t.tables.a.name: wrong type; found 1"),
        ({"items": []}, "t.items: too few; found an empty list; allowed: a list of at least one"),
        ({"items": [FULL["inner"]] * 3}, "t.items: too many"),
        ({"items": [{"name": "a"}, {}]}, "t.items[1].name: missing"),
        ({"items": {}}, "t.items: wrong type; found a table"),
        ({"free": {"a": [None]}}, "t.free.a[0]: wrong type"),
        ({"free": {"a": float("inf")}}, "t.free.a: wrong type"),
    ],
)
def test_one_fault(change, fault):
    found = faults_of(**change)
    assert len(found) == 1
    assert fault in found[0]


def test_all_faults_at_once():
    found = faults_of(flag=1, count=0, inner={"x": 1}, items=[{"name": 1}, {"name": 2}], more=1)
    assert [fault.partition(": ")[2].partition(":")[0] for fault in found] == [
        "t.flag",
        "t.count",
        "t.inner.x",
        "t.inner.name",
        "t.items[0].name",
        "t.items[1].name",
        "t.more",
    ]


def test_no_value_without_its_faults():
    value, faults = convert_table(Table, {}, "t")
    assert value is None
    assert [fault.path for fault in faults] == ["t.needed"]


def test_a_table_must_be_one():
    _, faults = convert_table(Table, 3, "t")  # type: ignore[arg-type]
    assert [fault.allowed for fault in faults] == ["a table"]


class Picky(Struct, frozen=True):
    """A rule of its own."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


def test_a_type_s_own_rule_is_a_fault_too():
    value, faults = convert_table(Picky, {"low": 2, "high": 1}, "t", quiet())
    assert value is None
    assert [str(fault) for fault in faults] == ["conf.toml: t: low is above high"]


def test_types_nobody_can_write_are_refused_loudly():
    class Odd(Struct):
        value: bytes = b""

    with pytest.raises(TypeError, match="BytesType"):
        convert_table(Odd, {"value": "x"}, "t")


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("count", "7", 7),
        ("flag", "true", True),
        ("workers", "3", 3),
        ("workers", "auto", "auto"),
        ("wait", "5", 5),
        ("size", "64KiB", "64KiB"),
        ("needed", "7", "7"),
    ],
)
def test_a_text_from_the_environment_may_stand_for_a_number(option, text, expected):
    sources = quiet()
    sources.substituted(("t", option), "${env:X}")
    faults = Faults(sources)
    plain = walk_table(Table, FULL | {option: text}, ("t",), faults)
    assert not faults.found
    assert plain[option] == expected


def test_a_text_written_as_one_may_not():
    assert faults_of(count="7") == ['conf.toml: t.count: wrong type; found "7"; allowed: a whole number, at least 1']


@pytest.mark.parametrize("text", ["hunter2", "12345678", "[1]", "x\ny = 1"])
@pytest.mark.parametrize("option", ["flag", "mode", "wait", "count"])
def test_secrets_show_in_no_fault(option, text):
    sources = quiet()
    sources.substituted(("t", option), "${env:X}")
    _, faults = convert_table(Table, FULL | {option: text}, "t", sources)
    assert all(text not in str(fault) for fault in faults)
    assert all(fault.found == '"${env:X}"' for fault in faults)


def test_file_names_become_absolute(tmp_path):
    sources = Sources(str(tmp_path / "conf.toml"))
    faults = Faults(sources)
    assert walk_table(Table, FULL, ("t",), faults)["file"] == str(tmp_path / "x.pem")
    for name in ("", "stdout", "/etc/x.pem"):
        assert walk_table(Table, FULL | {"file": name}, ("t",), faults)["file"] == name


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*FULL, "other"]), PLAIN))
def test_the_walk_is_as_strict_as_msgspec(change):
    """What the walk lets through, msgspec takes; no data makes either of them fail otherwise."""
    value, faults = convert_table(Table, FULL | change, "t")
    assert (value is None) == bool(faults)


@given(st.dictionaries(st.sampled_from(Document.__struct_fields__), PLAIN))
def test_any_document_is_taken_or_refused(raw):
    value, faults = convert_table(Document, raw, "")
    assert (value is None) == bool(faults)


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy's options."""

    limit: int = 1


def test_a_policy_s_table_holds_what_every_policy_has_too():
    raw = {"policy": "limiter", "mode": "observe", "limit": 2}
    table, config, faults = convert_policy({"limiter": Config}, "mine", raw)
    assert not faults
    assert table is not None
    assert (table.policy, table.mode, table.failure, config) == ("limiter", "observe", "closed", Config(2))


def test_a_policy_is_named_by_its_instance_if_nothing_else_is_said():
    table, _, _ = convert_policy({"limiter": Config}, "limiter", {})
    assert table is not None
    assert table.policy == "limiter"


@pytest.mark.parametrize(
    ("instance", "raw", "expected"),
    [
        ("limitr", {}, ['policies.limitr: no policy of this instance’s name; found "limitr"']),
        ("a", {"policy": "limitr"}, ['policies.a.policy: no policy of this name; found "limitr"']),
        ("a", {"policy": 1}, ["policies.a.policy: wrong type"]),
        ("limiter", {"mode": "obserf"}, ['did you mean "observe"?']),
        ("limiter", {"mod": "observe"}, ['did you mean "mode"?']),
        (
            "limiter",
            {"limt": 1, "limit": "x", "failure": 1},
            ["failure: not", "limt: unknown", "limit: wrong"],
        ),
        ("limiter", [], ["policies.limiter: wrong type"]),
    ],
)
def test_faults_of_a_policy_s_table(instance, raw, expected):
    table, config, faults = convert_policy({"limiter": Config}, instance, raw, quiet())
    assert table is None
    assert config is None
    assert len(faults) == len(expected)
    for fault, text in zip(faults, expected, strict=True):
        assert text in str(fault)


def test_the_walk_leaves_its_input_alone():
    before = msgspec.json.encode(FULL)
    convert_table(Table, FULL, "t", quiet())
    assert msgspec.json.encode(FULL) == before
