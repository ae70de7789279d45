"""api_key: who calls, by API key."""

from __future__ import annotations

import logging
from email.utils import parsedate_to_datetime

import pytest

from gatewayd.config.consumers import ApiKey, Consumer
from gatewayd.config.model import Document, Gateway, Identity
from gatewayd.config.units import Moment, Rate
from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.identity import api_keys, last_use
from gatewayd.identity.consumer_source import open_consumers
from gatewayd.policies import api_key
from gatewayd.policies.api_key import Config
from tests.support.exchanges import make_exchange

PEPPER = "p" * 32
KEY, OTHER, FOREIGN = api_keys.new_key("live"), api_keys.new_key("live"), "elsewhere-0123456789"
OLD, SPARE = api_keys.new_key("live"), api_keys.new_key("live")
DAY = 86_400.0


class Counting:
    """Consumers, and how often they were asked."""

    def __init__(self, consumers):
        self._consumers = consumers
        self.asked = 0

    def by_credential(self, kind, key):
        self.asked += 1
        return self._consumers.by_credential(kind, key)


class Scene:
    """A policy over the consumer `acme` with `KEY` and what a test adds."""

    def __init__(self, options=None, arena=None, folder="", keys=(), failures="1000/s", **of_key):
        self.clock = FakeClock()
        hasher = api_keys.hasher(PEPPER)
        all_keys = [ApiKey("k1", api_keys.stored(hasher(KEY.encode())), **of_key), *keys]
        all_keys.append(ApiKey("foreign", api_keys.stored(hasher(FOREIGN.encode()))))
        identity = Identity(pepper=PEPPER, realm="r", failures_per_address=Rate.parse(failures))
        document = Document(
            gateway=Gateway(state_dir=folder), identity=identity, consumers={"acme": Consumer(keys=all_keys)}
        )
        self.consumers = Counting(open_consumers(document, None))
        context = BuildContext("who", clock=self.clock, document=document, consumers=self.consumers, arena=arena)
        self.hooks = api_key.build(Config(**(options or {})), context)

    def ask(self, *headers, query=None):
        """The verdict about a request, and its exchange."""
        exchange = make_exchange([(b"accept", b"*/*"), *headers], query=query)
        return self.hooks.access(exchange), exchange

    def taken(self, *headers, query=None):
        verdict, exchange = self.ask(*headers, query=query)
        assert (verdict is None) is (exchange.identity is not None)
        if verdict is not None:
            assert (verdict.status, verdict.code) in {(401, "credential_invalid"), (401, "credential_missing")}
        return verdict is None


def shown(key, name=b"x-api-key"):
    return name, key.encode()


def test_a_key_tells_who_calls():
    verdict, exchange = Scene(scopes=["read"]).ask(shown(KEY))
    assert verdict is None
    identity = exchange.identity
    assert (identity.consumer.id, identity.method, identity.credential) == ("acme", "api_key", "k1")
    assert identity.scopes == {"read"}


def test_targets_do_not_see_it_unless_they_are_to():
    assert Scene().ask(shown(KEY))[1].headers == [(b"accept", b"*/*")]
    assert shown(KEY) in Scene({"pass_on": True}).ask(shown(KEY))[1].headers


@pytest.mark.parametrize("key", [OTHER, KEY[:-1], KEY + "0", KEY.upper(), "", "x", FOREIGN, api_keys.new_key("test")])
def test_any_other_is_refused_in_the_same_words(key):
    verdict, exchange = Scene().ask(shown(key))
    assert (verdict.status, verdict.code) == (401, "credential_invalid")
    assert exchange.identity is None
    assert dict(verdict.headers)[b"www-authenticate"] == b'ApiKey realm="r"'
    assert verdict is Scene().ask(shown("x"))[0] or verdict.body == Scene().ask(shown("x"))[0].body


def test_none_at_all_is_missing():
    verdict, _ = Scene().ask()
    assert (verdict.status, verdict.code) == (401, "credential_missing")


def test_garbage_is_not_looked_up():
    scene = Scene()
    for garbage in ("", "x", KEY[:-1], KEY[:-1] + "x", api_keys.new_key("test"), FOREIGN, "gw_live_" + "a" * 41):
        assert not scene.taken(shown(garbage))
    assert scene.consumers.asked == 0
    assert not scene.taken(shown(OTHER))
    assert scene.consumers.asked == 1


def test_a_key_is_looked_up_once():
    scene = Scene()
    assert all(scene.taken(shown(KEY)) for _ in range(5))
    assert scene.consumers.asked == 1


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([shown(KEY), shown(KEY)], None),
        ([shown(KEY), shown(OTHER)], None),
        ([shown(KEY)], b"key=" + KEY.encode()),
        ([], b"key=" + KEY.encode() + b"&key=" + KEY.encode()),
        ([], b"key=" + KEY.encode() + b"&k%65y="),
    ],
)
def test_what_is_shown_twice_is_refused(headers, query):
    verdict, _ = Scene({"query": "key"}).ask(*headers, query=query)
    assert (verdict.status, verdict.code) == (401, "credential_invalid")


def test_a_query_may_hold_it_where_allowed():
    query = b"a=1&key=" + KEY.encode()
    verdict, exchange = Scene({"query": "key"}).ask(query=query)
    assert (verdict, exchange.query) == (None, b"a=1")
    verdict, exchange = Scene().ask(query=query)
    assert (verdict.code, exchange.query) == ("credential_missing", query)


@pytest.mark.parametrize("scheme", ["Bearer", "ApiKey"])
def test_a_scheme_of_authorization(scheme):
    scene = Scene({"header": "Authorization", "scheme": scheme})
    assert scene.taken((b"authorization", f"{scheme} {KEY}".encode()))
    assert not scene.taken((b"authorization", KEY.encode()))
    assert not scene.taken(shown(KEY))
    reply, exchange = scene.ask((b"authorization", b"Basic YTpi"))
    assert reply.code == "credential_missing"
    assert (b"authorization", b"Basic YTpi") in exchange.headers


def test_tokens_behind_bearer_are_others_business():
    scene = Scene({"header": "Authorization", "scheme": "Bearer"})
    exchange = make_exchange([(b"authorization", b"Bearer eyJhbGciOi")])
    assert scene.hooks.authenticate(exchange) is None
    assert exchange.headers == [(b"authorization", b"Bearer eyJhbGciOi")]


def test_keys_from_elsewhere_are_taken_where_the_policy_says_so():
    assert not Scene().taken(shown(FOREIGN))
    scene = Scene({"imported": True})
    assert scene.taken(shown(FOREIGN))
    assert scene.taken(shown(KEY))
    asked = scene.consumers.asked
    assert not scene.taken(shown(KEY[:-1] + ("0" if KEY[-1] != "0" else "1")))
    assert not scene.taken(shown("x" * 257))
    assert scene.consumers.asked == asked
    assert Scene({"imported": True, "header": "Authorization", "scheme": "Bearer"}).taken(
        (b"authorization", b"Bearer " + FOREIGN.encode())
    )


def test_keys_have_a_beginning_and_an_end():
    now = FakeClock().wall_now
    scene = Scene(not_before=Moment(now + 10), expires=Moment(now + 20))
    assert not scene.taken(shown(KEY))
    scene.clock.advance(10)
    assert scene.taken(shown(KEY))
    scene.clock.advance(9.9)
    assert scene.taken(shown(KEY))
    scene.clock.advance(0.1)
    assert not scene.taken(shown(KEY))


def test_the_end_follows_the_clock_even_if_it_is_set_back():
    now = FakeClock().wall_now
    scene = Scene(expires=Moment(now + 20))
    assert scene.taken(shown(KEY))
    scene.clock.wall_now += 30
    assert not scene.taken(shown(KEY))
    scene.clock.wall_now -= 15
    assert scene.taken(shown(KEY))
    scene.clock.wall_now += 15
    assert not scene.taken(shown(KEY))


def test_a_replaced_key_works_for_a_while_and_replies_say_so():
    now = FakeClock().wall_now
    digest = api_keys.stored(api_keys.hasher(PEPPER)(SPARE.encode()))
    scene = Scene(grace_until=Moment(now + 7 * DAY), keys=[ApiKey("k2", digest)])
    _, exchange = scene.ask(shown(KEY))
    headers = []
    scene.hooks.reply(exchange, headers)
    ((name, value),) = headers
    assert name == b"gatewayd-key-expires"
    assert parsedate_to_datetime(value.decode()).timestamp() == now + 7 * DAY
    _, exchange = scene.ask(shown(SPARE))
    scene.hooks.reply(exchange, headers)
    assert len(headers) == 1
    scene.clock.advance(7 * DAY)
    assert not scene.taken(shown(KEY))
    assert scene.taken(shown(SPARE))


@pytest.mark.parametrize(("expires", "grace", "works"), [(10, 20, 10), (20, 10, 10), (0, 10, 10), (10, 0, 10)])
def test_the_nearer_end_counts(expires, grace, works):
    now = FakeClock().wall_now
    scene = Scene(expires=Moment(expires and now + expires), grace_until=Moment(grace and now + grace))
    scene.clock.advance(works - 0.5)
    assert scene.taken(shown(KEY))
    scene.clock.advance(0.5)
    assert not scene.taken(shown(KEY))


def test_guessing_is_slowed_down():
    scene = Scene(failures="5/m")
    guesses = [scene.ask(shown(api_keys.new_key("live")))[0] for _ in range(20)]
    assert [reply.status for reply in guesses] == [401] * 5 + [429] * 15
    assert scene.consumers.asked == 5
    assert scene.ask(shown(KEY))[0].status == 429
    scene.clock.advance(60)
    assert scene.taken(shown(KEY))


def test_the_hour_of_use_is_noted_once(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr(last_use.LastUse, "mark", lambda self, digest, now: marks.append(now // 3600))
    scene = Scene(arena=Arena(size=1 << 24), folder=str(tmp_path))
    for _ in range(3):
        assert scene.taken(shown(KEY))
    assert not scene.taken(shown(OTHER))
    assert len(marks) == 1
    scene.clock.advance(3600)
    assert scene.taken(shown(KEY))
    assert len(marks) == 2
    assert marks[1] == marks[0] + 1


def test_a_worker_remembers_so_many_and_no_more(monkeypatch):
    monkeypatch.setattr(api_key, "KNOWN", 2)
    keys = [api_keys.new_key("live") for _ in range(4)]
    hasher = api_keys.hasher(PEPPER)
    scene = Scene(keys=[ApiKey(f"n{at}", api_keys.stored(hasher(key.encode()))) for at, key in enumerate(keys)])
    for _ in range(2):
        assert all(scene.taken(shown(key)) for key in keys)
    assert scene.consumers.asked == 8


def test_nothing_says_a_key(caplog):
    caplog.set_level(logging.DEBUG)
    scene = Scene()
    for key in (KEY, OTHER, KEY[:-1]):
        verdict, exchange = scene.ask(shown(key))
        said = [caplog.text, repr(verdict), repr(exchange.identity), repr(exchange.context), scene.hooks.explain]
        assert not [text for text in said if key[8:30] in text]


@pytest.mark.parametrize(
    ("options", "path"),
    [({"header": ""}, "header"), ({"header": "Authorization"}, "scheme"), ({"header": "authorization"}, "scheme")],
)
def test_what_cannot_work_is_a_fault(options, path):
    with pytest.raises(ConfigError) as caught:
        Scene(options)
    assert [fault.path for fault in caught.value.faults] == [path]


def test_without_a_pepper_there_are_no_keys():
    for pepper in ("", "p" * 31):
        with pytest.raises(ConfigError, match="pepper"):
            api_key.build(Config(), BuildContext(document=Document(identity=Identity(pepper=pepper))))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "API key in X-Api-Key"),
        ({"header": "Authorization", "scheme": "Bearer"}, "API key in Authorization: Bearer …"),
        ({"query": "key", "imported": True}, "API key in X-Api-Key or ?key=, made here or elsewhere"),
    ],
)
def test_it_explains_itself(options, text):
    assert Scene(options).hooks.explain == text
