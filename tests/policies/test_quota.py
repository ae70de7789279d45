"""quota: what callers are told, whom it counts for, and configurations that cannot be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatewayd.config.model import decode
from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import BuildContext, Hooks, NoConsumers, Reply, Route
from gatewayd.errors import ConfigError
from gatewayd.policies import quota
from tests.support.exchanges import make_exchange

NOVEMBER = 1_795_435_200.0  # 2026-11-23T12:00:00Z
TO_DECEMBER = 7 * 86_400 + 43_200


class Known(NoConsumers):
    """Consumers with a short id."""

    def by_id(self, consumer: str) -> Consumer | None:
        return Consumer(consumer) if len(consumer) < 10 else None


def context(state: Path, clock: FakeClock | None = None, **parts: Any) -> BuildContext:
    """As for an instance "plan" that the gateway names."""
    raw = {"gateway": {"state_dir": str(state), "policies": ["plan"]}, **parts}
    clock = clock or FakeClock(wall=NOVEMBER)
    return BuildContext("plan", clock=clock, document=decode(raw), arena=Arena(size=1 << 22), consumers=Known())


def build(state: Path, clock: FakeClock | None = None, **options: Any) -> Hooks:
    return quota.build(quota.Config(**{"limit": 2, **options}), context(state, clock, **ROUTES))


ROUTES = {
    "upstreams": {"up": {"targets": [{"address": "a:1"}]}},
    "services": {"up": {"upstream": "up"}},
    "routes": {"plain": {"path": "/", "service": "up"}, "dear": {"path": "/dear", "service": "up"}},
}


def ask(hooks: Hooks, consumer: str = "ann", route: str = "plain", **attributes: Any) -> tuple[Reply | None, Exchange]:
    """The limit's answer to an exchange of a consumer, "" for nobody."""
    assert hooks.limit is not None
    exchange = make_exchange(route=Route(route, lambda exchange: None), **attributes)
    exchange.identity = Identity(Consumer(consumer), "api_key") if consumer else None
    return hooks.limit.take(exchange, round(FakeClock().monotonic() * 1e9)), exchange


def shown(hooks: Hooks, exchange: Exchange) -> dict[bytes, bytes]:
    assert hooks.reply is not None
    headers: list[tuple[bytes, bytes]] = []
    hooks.reply(exchange, headers)
    return dict(headers)


def test_each_consumer_has_a_quota_and_no_more(tmp_path):
    hooks = build(tmp_path)
    assert [ask(hooks)[0] for _ in range(2)] == [None, None]
    refusal, _ = ask(hooks)
    assert (refusal.status, refusal.code) == (429, "quota_exceeded")
    assert dict(refusal.headers)[b"retry-after"] == b"%d" % TO_DECEMBER
    assert b'"policy":"plan"' in refusal.body
    assert ask(hooks, "bob")[0] is None


def test_callers_are_told_how_much_is_left(tmp_path):
    hooks = build(tmp_path)
    told = [shown(hooks, ask(hooks)[1]) for _ in range(3)]
    assert [each[b"ratelimit"] for each in told] == [b'"plan";r=%d;t=%d' % (left, TO_DECEMBER) for left in (1, 0, 0)]
    assert {each[b"ratelimit-policy"] for each in told} == {b'"plan";q=2;w=2592000'}


def test_the_older_fields_are_there_if_asked_for(tmp_path):
    assert b"x-ratelimit-limit" not in shown(build(tmp_path), ask(build(tmp_path))[1])
    hooks = build(tmp_path, legacy_headers=True, limit=9)
    told = shown(hooks, ask(hooks, "bob")[1])
    assert [told[b"x-ratelimit-" + name] for name in (b"limit", b"remaining", b"reset")] == [
        b"9",
        b"8",
        b"%d" % TO_DECEMBER,
    ]


def test_the_next_period_begins_anew(tmp_path):
    clock = FakeClock(wall=NOVEMBER)
    hooks = build(tmp_path, clock, limit=1)
    assert ask(hooks)[0] is None
    clock.advance(TO_DECEMBER - 1)
    assert dict(ask(hooks)[0].headers)[b"retry-after"] == b"1"
    clock.advance(1)
    assert ask(hooks)[0] is None


def test_what_was_used_outlives_the_daemon(tmp_path):
    assert ask(build(tmp_path, limit=1))[0] is None
    assert ask(build(tmp_path, limit=1))[0] is not None


@pytest.mark.parametrize(("starts", "wait"), [("2026-01-24", 43_200), ("2026-01-23T13:00", 3_600)])
def test_it_begins_where_it_is_said_to(tmp_path, starts, wait):
    hooks = build(tmp_path, starts=starts)
    assert shown(hooks, ask(hooks)[1])[b"ratelimit"] == b'"plan";r=1;t=%d' % wait


def test_midnight_is_that_of_the_zone(tmp_path):
    hooks = build(tmp_path, per="day", time_zone="Asia/Kolkata")
    assert shown(hooks, ask(hooks)[1])[b"ratelimit"] == b'"plan";r=1;t=%d' % (6.5 * 3600)


def test_who_is_not_known_is_counted_by_address(tmp_path):
    hooks = build(tmp_path, limit=1)
    assert [ask(hooks, "", client=client)[0] is None for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1")] == [
        True,
        True,
        False,
    ]


def test_routes_may_weigh_more_or_nothing(tmp_path):
    hooks = build(tmp_path, limit=5, weights={"dear": 3, "plain": 0})
    assert [ask(hooks, route=route)[0] is None for route in ("dear", "plain", "dear", "plain")] == [
        True,
        True,
        False,
        True,
    ]


def test_only_success_is_charged_if_that_is_said(tmp_path):
    assert build(tmp_path).log is None
    hooks = build(tmp_path, limit=1, charge="success")
    for status, reason in ((502, "connect_failed"), (500, ""), (200, "closed_in_reply")):
        verdict, exchange = ask(hooks)
        assert verdict is None
        exchange.status, exchange.reason = status, reason
        hooks.log(exchange)
    verdict, exchange = ask(hooks)
    exchange.status = 404
    hooks.log(exchange)
    assert ask(hooks)[0] is not None


def test_it_is_given_back_if_another_limit_refuses(tmp_path):
    hooks = build(tmp_path, limit=1)
    _, exchange = ask(hooks)
    hooks.limit.give_back(exchange)
    assert ask(hooks)[0] is None


def test_a_list_of_keys_counts_each_combination(tmp_path):
    hooks = build(tmp_path, limit=1, key=["consumer", "route"])
    assert [ask(hooks, route=route)[0] is None for route in ("dear", "plain", "dear")] == [True, True, False]


def test_callers_can_ask_what_they_have_used(tmp_path):
    hooks = build(tmp_path, limit=5)
    for _ in range(7):
        _, exchange = ask(hooks)
    assert hooks.usage(exchange, 0) == (5, 5, 0, TO_DECEMBER)
    assert hooks.usage(make_exchange(identity=Identity(Consumer("bob"), "")), 0) == (5, 0, 5, TO_DECEMBER)
    assert build(tmp_path, limit=3).usage(exchange, 0)[:3] == (3, 3, 0)
    assert build(tmp_path, key=["consumer", "route"]).usage(exchange, 0) is None


def test_explain(tmp_path):
    hooks = build(tmp_path, per="day", time_zone="Europe/Berlin", key=["consumer", "route"])
    assert hooks.explain == "2 per day (Europe/Berlin), for each consumer and route"


# -- where it is kept -------------------------------------------------------------------------------------------------


def test_a_configuration_whose_counts_cannot_be_kept_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"what is used cannot be kept: .*file.*see gateway\.state_dir"):
        build(tmp_path / "file")


@pytest.mark.parametrize("where", ["services", "routes", "plans"])
def test_whoever_names_it_wants_its_directory(tmp_path, where):
    parts = msgspec.json.decode(msgspec.json.encode(ROUTES))
    parts.setdefault(where, {}).setdefault("plain", {"upstream": "up"} if where == "services" else {})
    parts[where]["plain"]["policies"] = ["plan"]
    named = context(tmp_path / "state", **parts, gateway={"state_dir": str(tmp_path / "state")})
    quota.build(quota.Config(limit=1), named)
    assert (tmp_path / "state").exists()


def test_an_instance_that_nobody_names_wants_no_directory(tmp_path):
    unnamed = context(tmp_path / "state", gateway={"state_dir": str(tmp_path / "state")})
    hooks = quota.build(quota.Config(limit=1), unnamed)
    assert not (tmp_path / "state").exists()
    assert ask(hooks)[0] is None  # if it is asked after all, it counts
    assert ask(hooks)[0] is not None


def test_a_configuration_is_checked_without_a_directory(tmp_path):
    checked = context(tmp_path / "state")
    checked.arena = None
    quota.build(quota.Config(limit=1), checked)
    assert not (tmp_path / "state").exists()


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"time_zone": "Europe/Nowhere"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"time_zone": "Europe"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"starts": "the first"}, "starts"),
        ({"starts": "2026-01-01T00:00+02:00"}, "starts"),
        ({"starts": "2026-01-01T00:00:00.5"}, "starts"),
        ({"key": []}, "key"),
        ({"key": ["route", "route"]}, "key"),
        ({"key": "whoever"}, "key"),
        ({"weights": {"nowhere": 1}}, "weights.nowhere"),
        ({"weights": {"dear": 3}}, "weights.dear"),
    ],
)
def test_faults(tmp_path, options, path):
    with pytest.raises(ConfigError) as error:
        build(tmp_path, **options)
    assert [fault.path for fault in error.value.faults] == [path]


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 1 << 54}, {"per": "fortnight", "limit": 1}, {}])
def test_options_that_are_none(options):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, quota.Config)
