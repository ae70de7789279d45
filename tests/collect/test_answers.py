from __future__ import annotations

import jsonschema_rs
import msgspec
import pytest

from gatewayd.collect.answers import Difference, change_of, components, period_of, reference, rfc3339
from gatewayd.collect.filters import Filters
from gatewayd.collect.logs import SHOWN
from gatewayd.collect.periods import Piece
from gatewayd.collect.sources import Source
from gatewayd.collect.stats import Change, Measures
from tests.support.calls import NOON

T = NOON * 1_000_000


def test_times():
    assert rfc3339(T) == "2027-01-15T12:00:00Z"
    assert rfc3339(T + 1) == "2027-01-15T12:00:00.000001Z"
    assert rfc3339(0) == "1970-01-01T00:00:00Z"


def test_a_period():
    rolled_up = Source(Filters(), T, T + 90_000_000, T - 1, (Piece("1m", T, T + 60), Piece("10s", T + 60, T + 90)))
    assert msgspec.to_builtins(period_of(rolled_up)) == {
        "from": "2027-01-15T12:00:00Z",
        "to": "2027-01-15T12:01:30Z",
        "seconds": 90.0,
        "source": "1m+10s",
        "oldest": "2027-01-15T11:59:59.999999Z",
    }
    assert period_of(Source(Filters(), T, T + 1, None)).oldest is None


def test_a_change_has_its_differences():
    found = change_of(Change("a", Measures(calls=150, errors=1), Measures(calls=100)))
    assert (found.key, found.now.calls, found.then.calls) == ("a", 150, 100)
    assert found.change["calls"] == Difference(50, 0.5)
    assert found.change["errors"] == Difference(1, None)
    assert found.change["p99_us"] == Difference(0, None)
    assert set(found.change) == set(Measures.__struct_fields__)


def validator(name):
    return jsonschema_rs.Draft202012Validator({**reference(name), "components": {"schemas": components()}})


def test_answers_fit_their_schemas():
    change = change_of(Change("a", Measures(calls=1), Measures()))
    period = msgspec.to_builtins(period_of(Source(Filters(), T, T + 1, None)))
    compared = {"now": period, "then": period, "by": None, "order": "calls", "rows": [msgspec.to_builtins(change)]}
    assert validator("CompareAnswer").is_valid({**compared, "total": msgspec.to_builtins(change)})
    assert not validator("CompareAnswer").is_valid(compared)


@pytest.mark.parametrize("column", ["client", "status", "at"])
def test_a_call_is_described(column):
    row = dict.fromkeys(SHOWN, "") | {"at": "2027-01-15T12:00:00Z", "sampled": False, "client": None}
    schema = components()["Call"]["properties"]
    row |= {name: 1 for name, kind in schema.items() if kind.get("type") == "integer"}
    assert validator("Call").is_valid(row)
    assert not validator("Call").is_valid({name: row[name] for name in row if name != column})
    assert not validator("Call").is_valid({**row, column: []})
