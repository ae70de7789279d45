"""What a policy is to the data path: hooks, replies, and what is kept over reloads."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gatewayd.core.clock import SystemClock
from gatewayd.core.policy import BuildContext, Hooks, Reply, Route


def test_hooks_do_nothing_unless_they_are_given():
    hooks = Hooks()
    assert (hooks.access, hooks.reply, hooks.log, hooks.explain) == (None, None, None, "")


@pytest.mark.parametrize(("value", "name"), [(Hooks(), "access"), (Reply(200), "status")])
def test_what_is_shared_by_exchanges_cannot_be_changed(value, name):
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)


def test_a_reply_without_a_code_is_no_refusal():
    assert Reply(204) == Reply(204, (), b"", "")


def test_what_is_kept_comes_back_in_the_next_generation():
    kept: dict[tuple[str, str], Any] = {}
    first = BuildContext("limits", kept=kept).keep("table", dict)
    first["a"] = 1
    assert BuildContext("limits", kept=kept).keep("table", dict) is first


def test_what_is_kept_is_kept_by_instance_and_name():
    kept: dict[tuple[str, str], Any] = {}
    one, other = BuildContext("one", kept=kept), BuildContext("other", kept=kept)
    found = [one.keep("a", list), one.keep("b", list), other.keep("a", list)]
    assert len({id(each) for each in found}) == 3
    assert one.keep("a", list) is found[0]


def test_what_is_kept_is_made_once():
    made = []
    context = BuildContext("one")
    for _ in range(3):
        context.keep("a", lambda: made.append(True))
    assert len(made) == 1


def test_what_an_instance_shows_is_known_by_its_name():
    figures: dict[str, list[Any]] = {}
    for name, shown in (("one", {"a": 1}), ("other", {"b": 2}), ("one", {"c": 3})):
        BuildContext(name, figures=figures).show(lambda shown=shown: shown)
    assert {name: [each() for each in asked] for name, asked in figures.items()} == {
        "one": [{"a": 1}, {"c": 3}],
        "other": [{"b": 2}],
    }


def test_contexts_share_nothing_by_default():
    assert BuildContext().kept is not BuildContext().kept
    assert isinstance(BuildContext().clock, SystemClock)


def test_a_route_begins_with_no_hooks_and_no_limits():
    def handler(exchange):
        raise AssertionError

    route = Route("quotes", handler)
    assert (route.name, route.handler) == ("quotes", handler)
    assert (route.access, route.reply, route.log, route.hosts, route.upgrades) == ((), (), (), (), frozenset())
    assert (route.body_limit, route.slot, route.service, route.path) == (0, 0, "", "")
