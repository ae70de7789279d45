"""Tables of tokens: what goes in comes out, and what finds no place is counted as `other`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.observe.tokens import OTHER, Tokens, Verdict, Verdicts, entries

WIDTH, ENTRIES = 8, 16
LONGEST = 8 * (WIDTH - 1)


def empty(count: int = ENTRIES) -> memoryview:
    return memoryview(bytearray(8 * WIDTH * count)).cast("q")


def counts(cells: memoryview) -> dict[str, int]:
    return {name: count for name, _, count in entries(cells, WIDTH)}


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=70)


@given(st.lists(names, max_size=ENTRIES - 1))
def test_tokens_come_back_as_they_went_in_up_to_their_length(tokens: list[str]) -> None:
    cells = empty()
    for token in tokens:
        Tokens(cells, WIDTH).count(token)
    expected: dict[str, int] = {}
    for token in tokens:
        short = token.encode()[:LONGEST].decode(errors="ignore")
        expected[short] = expected.get(short, 0) + 1
    assert counts(cells) == expected


def test_the_last_entry_takes_what_finds_no_place() -> None:
    cells = empty(3)
    table = Tokens(cells, WIDTH)
    for token in "abcda":
        table.count(token)
    assert counts(cells) == {"a": 2, "b": 1, OTHER: 2}
    Tokens(cells, WIDTH).count("e")
    assert counts(cells) == {"a": 2, "b": 1, OTHER: 3}


@pytest.mark.parametrize(
    "verdict",
    [Verdict("fair", "rate_limit", "enforce", "refused"), Verdict("a:b", "", "", "hit"), Verdict(*[OTHER] * 4)],
)
def test_a_verdict_is_read_from_its_token(verdict: Verdict) -> None:
    assert Verdict.of(verdict.token) == verdict
    assert Verdict.of(OTHER) == Verdict(OTHER, OTHER, OTHER, OTHER)


def test_verdicts_find_their_cells_anew_when_policies_change() -> None:
    cells = empty()
    verdicts = Verdicts(Tokens(cells, WIDTH))
    noted = ("fair", "failed")
    verdicts.add(verdicts[noted])
    verdicts.instances = {"fair": ("quota", "observe")}
    verdicts.add(verdicts[noted])
    verdicts.clear()
    verdicts.add(verdicts[noted])
    assert counts(cells) == {"failed:::fair": 2, "failed:observe:quota:fair": 1}
