"""What is left of a configuration without its faults."""

from __future__ import annotations

import pytest

from gatewayd.config.sound import leading_to, sound_part
from gatewayd.errors import Fault

RAW = {
    "listeners": {"http": {"address": "127.0.0.1:80"}},
    "upstreams": {"up": {"targets": [{"address": "127.0.0.1:1"}, {"address": "127.0.0.1:2", "weight": -1}]}},
    "services": {"up": {"upstream": "up", "timeouts": {"connect": "2s", "idle": "soon"}}},
    "routes": {
        "one": {"path": "/", "service": "up", "hosts": ["a b"], "listeners": ["http"], "body": "1KiB"},
        "two": {"path": "/", "service": "up"},
        "three": {"path": 3, "service": "up"},
    },
    "policies": {"cors": {"origins": ["*"], "credentials": "yes"}},
    "limits": {"head": "1KiB", "headers": 0},
}
FAULTS = (
    "upstreams.up.targets[1].weight",
    "services.up.timeouts.idle",
    "routes.one.hosts[0]",
    "routes.two",
    "routes.three.path",
    "policies.cors.credentials",
    "limits.headers",
)


def left(*paths):
    return sound_part(RAW, [Fault(path, "is wrong") for path in paths])


def test_only_what_is_wrong_is_left_out():
    document, broken = left(*FAULTS)
    assert [target.weight for target in document.upstreams["up"].targets] == [1, 1]
    assert document.services["up"].timeouts.connect == 2
    assert document.services["up"].timeouts.idle == 60
    assert document.policies == {"cors": {"origins": ["*"]}}
    assert (document.limits.head, document.limits.headers) == (1024, 100)
    assert {section: names for section, names in broken.items() if names} == {"routes": {"three"}}


def test_a_route_in_doubt_meets_no_other():
    document, _ = left(*FAULTS)
    one = document.routes["one"]
    assert (one.path, one.body) == ("/", 1024)
    assert one.hosts == ["route0.invalid"]
    assert one.listeners == []
    assert document.routes["two"].hosts == []


def test_without_faults_it_is_the_whole():
    raw = {"listeners": RAW["listeners"]}
    document, broken = sound_part(raw, [])
    assert document.listeners["http"].address == "127.0.0.1:80"
    assert broken == {}


@pytest.mark.parametrize("path", ["upstreams.up.targets[0].address", "upstreams.up.targets", "upstreams.up.targets[1]"])
def test_an_entry_that_lacks_what_it_needs_is_left_out(path):
    """A list goes as a whole: the places of those behind would be wrong."""
    document, broken = left(path, *FAULTS)
    assert document.upstreams == {}
    assert broken["upstreams"] == {"up"}


def test_a_section_that_is_wrong_as_a_whole_is_left_out():
    document, _ = left("routes", *FAULTS)
    assert document.routes == {}


def test_a_name_that_is_none_is_left_out():
    raw = {"listeners": {"no name": RAW["listeners"]["http"]}, "other": {}, "limits": 5}
    document, broken = sound_part(raw, [Fault('listeners."no name"', "not a name"), Fault("other", "unknown")])
    assert document.listeners == {}
    assert broken == {"listeners": {"no name"}}


def test_where_faults_only_follow():
    known = leading_to([Fault("routes.a.hosts[0]", "is wrong"), Fault("limits", "is wrong")])
    assert known == {("routes",), ("routes", "a"), ("routes", "a", "hosts"), ("routes", "a", "hosts", 0), ("limits",)}
