"""jwks: where keys come from, when they are fetched again, and how often at most."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.identity import jwks as module
from gatewayd.identity.fetch import FetchError, close
from gatewayd.identity.jose import Refused
from gatewayd.identity.jwk import key_set
from gatewayd.identity.jwks import KeySource, Timing, from_discovery, from_file, from_url, read_file
from tests.support.side_server import SideServer
from tests.support.tokens import ISSUER, jwk_of, jwks, key_for

ONE, TWO = (jwk_of(key_for("ES256", name), kid=name) for name in ("one", "two"))
TIMING = Timing(refresh=300, stale=3600, per_minute=6)


class Issuer:
    """What a `KeySource` reads: `keys`, or the error to raise."""

    def __init__(self, *keys):
        self.keys = keys
        self.error = None
        self.reads = 0
        self.gate = None

    async def read(self):
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return key_set(jwks(*self.keys))


class Scene:
    """An issuer and what knows its keys, with a clock of their own."""

    def __init__(self, *keys, timing=TIMING):
        self.clock = FakeClock()
        self.issuer = Issuer(*keys)
        self.source = KeySource(ISSUER, self.issuer.read, timing, self.clock.monotonic)

    def wait(self):
        asyncio.run(self.source.wait(self.source.rounds))

    async def settle(self):
        for _ in range(10):
            await asyncio.sleep(0)

    def ready(self):
        """Whether a token could be checked at once; what that set going is over."""

        async def look():
            found = self.source.ready()
            await self.settle()
            return found

        return asyncio.run(look())

    def kids(self):
        return [key.kid for key in self.source.keys.keys]


def test_without_keys_one_has_to_wait_for_them():
    scene = Scene(ONE)
    assert not scene.source.usable
    assert scene.source.until == -math.inf
    scene.wait()
    assert (scene.source.usable, scene.kids(), scene.issuer.reads) == (True, ["one"], 1)
    assert scene.ready()
    assert scene.issuer.reads == 1
    assert scene.source.until == scene.clock.now + 300


def test_a_look_without_keys_has_them_fetched():
    scene = Scene(ONE)
    assert not scene.ready()
    assert scene.kids() == ["one"]


def test_everyone_waits_for_the_same_fetch():
    scene = Scene(ONE)

    async def crowd():
        scene.issuer.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(scene.source.wait(0)) for _ in range(100)]
        await scene.settle()
        scene.issuer.gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(crowd())
    assert scene.issuer.reads == 1


@pytest.mark.parametrize("error", [None, FetchError("timeout")])
def test_who_comes_to_wait_when_the_fetch_is_over_has_waited_enough(error):
    scene = Scene(ONE)
    scene.issuer.error = error
    scene.wait()
    asyncio.run(scene.source.wait(0))
    assert (scene.source.rounds, scene.issuer.reads) == (1, 1)


def test_keys_that_are_due_are_fetched_beside_the_token():
    scene = Scene(ONE)
    scene.wait()
    scene.issuer.keys = (TWO,)
    scene.clock.advance(299)
    assert scene.ready()
    assert scene.kids() == ["one"]
    scene.clock.advance(1)
    assert scene.ready()
    assert (scene.kids(), scene.issuer.reads) == (["two"], 2)


def test_after_a_long_pause_the_first_token_waits():
    scene = Scene(ONE)
    scene.wait()
    scene.clock.advance(599)
    assert scene.ready()
    scene.clock.advance(600)
    assert not scene.ready()


def test_while_the_issuer_is_down_keys_serve_on_until_they_are_too_old():
    scene = Scene(ONE)
    scene.wait()
    (key,) = scene.source.keys.keys
    scene.issuer.error = FetchError("timeout")
    scene.clock.advance(200)
    for _ in range(30):
        scene.clock.advance(100)
        assert scene.ready()
        assert scene.source.until <= scene.clock.now + module.RETRY
    assert key.live
    scene.clock.advance(401)
    assert not scene.ready()
    assert not scene.source.usable
    scene.issuer.error = None
    scene.clock.advance(10)
    scene.wait()
    assert scene.source.usable
    assert scene.source.keys.keys == [key]


@pytest.mark.parametrize("error", [FetchError("timeout"), FetchError("status_500"), Refused("key_set")])
def test_failures_are_tried_again_ever_later(error):
    scene = Scene(ONE)
    scene.issuer.error = error
    tried = []
    for second in range(60):
        before = scene.issuer.reads
        scene.wait()
        if scene.issuer.reads > before:
            tried.append(second)
        scene.clock.advance(1)
    assert tried == [0, 1, 3, 7, 15, 25]


def test_after_a_failure_a_fetch_that_succeeds_starts_over():
    scene = Scene(ONE)
    scene.issuer.error = FetchError("timeout")
    scene.wait()
    scene.issuer.error = None
    scene.wait()
    assert not scene.source.usable, "one second has to pass"
    scene.clock.advance(1)
    scene.wait()
    assert scene.source.usable
    assert scene.source._failures == 0


def test_a_key_nobody_knows_is_worth_one_fetch():
    scene = Scene(ONE)
    scene.wait()
    assert scene.source.worth_asking("two", "ES256")
    assert not scene.source.worth_asking("one", "ES384"), "a key of that name is there; it is of another kind"
    scene.issuer.keys = (ONE, TWO)
    scene.wait()
    assert scene.kids() == ["one", "two"]


def test_a_name_that_was_not_found_is_not_asked_for_again_soon():
    scene = Scene(ONE)
    scene.wait()
    scene.source.not_found("x", "ES256")
    assert not scene.source.worth_asking("x", "ES256")
    assert scene.source.worth_asking("y", "ES256")
    scene.wait()
    assert not scene.source.worth_asking("x", "ES256"), "the same keys as before change nothing"
    scene.clock.advance(module.UNKNOWN)
    assert scene.source.worth_asking("x", "ES256")


def test_new_keys_make_unknown_names_worth_asking_for_again():
    scene = Scene(ONE)
    scene.wait()
    scene.source.not_found("x", "ES256")
    scene.issuer.keys = (ONE, TWO)
    scene.wait()
    assert scene.source.worth_asking("x", "ES256")


def test_a_flood_of_made_up_names_makes_so_many_fetches_a_minute():
    scene = Scene(ONE)
    begun = []
    for number in range(20_000):
        name = f"made-up-{number}"
        if scene.source.worth_asking(name, "ES256"):
            before = scene.issuer.reads
            scene.wait()
            begun += [scene.clock.now] * (scene.issuer.reads - before)
            scene.source.not_found(name, "ES256")
        scene.clock.advance(0.01)
    assert all(sum(1 for other in begun if at <= other < at + 60) <= TIMING.per_minute for at in begun)
    assert 18 <= len(begun) <= 24, "200 seconds"
    assert len(scene.source._unknown) <= module.UNKNOWN_NAMES


def test_names_remembered_are_bounded():
    scene = Scene(ONE)
    for number in range(module.UNKNOWN_NAMES + 10):
        scene.source.not_found(str(number), "ES256")
    scene.source.not_found("x" * 10_000, "ES256")
    assert len(scene.source._unknown) == module.UNKNOWN_NAMES


def test_keys_that_are_gone_are_dead_at_once_and_others_live_on():
    scene = Scene(ONE, TWO)
    scene.wait()
    first, second = scene.source.keys.keys
    scene.issuer.keys = (TWO,)
    scene.wait()
    assert (first.live, second.live, scene.source.keys.keys) == (False, True, [second])


def test_an_issuer_may_take_all_its_keys_back(caplog):
    scene = Scene(ONE)
    scene.wait()
    (key,) = scene.source.keys.keys
    scene.issuer.keys = ()
    scene.wait()
    assert (key.live, scene.source.usable, len(scene.source.keys)) == (False, True, 0)
    assert "no key that can be used" in caplog.text


def test_keys_that_are_given_stay_for_ever():
    clock = FakeClock()
    source = KeySource("secret", None, TIMING, clock.monotonic)
    source.take(key_set(jwks(ONE)))
    clock.advance(10**9)
    assert source.ready()
    assert source.until == math.inf
    assert not source.worth_asking("two", "ES256")
    asyncio.run(source.wait(0))
    assert source.usable


# -- where they come from --------------------------------------------------------------------------------------------


def got(read):
    async def call():
        try:
            return [key.kid for key in (await read()).keys]
        except (FetchError, Refused) as error:
            return error.reason
        finally:
            await close()

    return asyncio.run(call())


def test_from_a_url():
    with SideServer({"/jwks": jwks(ONE, TWO)}) as server:
        assert got(from_url(server.url("/jwks"))) == ["one", "two"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, {}, b""), "status_500"),
        ((204, {}, b""), "status_204"),
        ((200, {}, b"<html>"), "json"),
        ((200, {}, b'{"keys":[],"keys":[]}'), "json"),
        ((200, {}, b'{"keys":{}}'), "key_set"),
        ((200, {}, json.dumps(jwks(ONE, {"kty": "oct", "k": "AAAA"})).encode()), "key_set"),
        ((200, {}, b" " * (1024 * 1024 + 1)), "too_large"),
    ],
)
def test_what_is_no_key_set(answer, why):
    with SideServer({"/jwks": answer}) as server:
        assert got(from_url(server.url("/jwks"))) == why


def test_by_discovery():
    with SideServer({"/jwks": jwks(ONE)}) as server:
        for issuer in (server.url(), server.url("/tenant/"), server.url("/tenant")):
            path = issuer.removeprefix(server.url()).rstrip("/") + "/.well-known/openid-configuration"
            server.answers[path] = {"issuer": issuer, "jwks_uri": server.url("/jwks")}
            assert got(from_discovery(issuer)) == ["one"]


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": "{url}/jwks"},
        {"issuer": "{url}/", "jwks_uri": "{url}/jwks"},
        {"jwks_uri": "{url}/jwks"},
        {"issuer": "{url}"},
        {"issuer": "{url}", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "{url}", "jwks_uri": ["{url}/jwks"]},
    ],
)
def test_discovery_of_somebody_else(document):
    with SideServer({"/jwks": jwks(ONE)}) as server:
        text = json.dumps(document).replace("{url}", server.url())
        server.answers["/.well-known/openid-configuration"] = json.loads(text)
        assert got(from_discovery(server.url())) == "discovery"


def test_keys_of_an_issuer_on_https_come_by_https(monkeypatch):
    async def document(url, ca):
        return {"issuer": ISSUER, "jwks_uri": "http://login.example/jwks"}

    monkeypatch.setattr(module, "_document", document)
    assert got(from_discovery(ISSUER)) == "discovery"


def test_from_a_file(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(ONE)))
    assert got(from_file(str(path))) == ["one"]
    path.write_text("{")
    assert got(from_file(str(path))) == "json"
    path.unlink()
    assert got(from_file(str(path))) == "unreadable"
    with pytest.raises(OSError):
        read_file(str(path))
