"""rate_limit over several machines, as whole edges before one Redis: what callers see of it, come what may."""

from __future__ import annotations

import pytest

from gatewayd.config.model import decode
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import rate_limit
from tests.support.edge import EdgeThread
from tests.support.raw import Caller
from tests.support.redis_server import RedisProcess, needs_redis


def document(url, timeout="10s", **options):
    """Each request costs half an hour, of which there are ten."""
    return {
        "redis": {"url": url, "timeout": timeout},
        "gateway": {"workers": 1},
        "routes": {"all": {"path": "/*", "reply": {"body": "fine"}, "policies": ["few"]}},
        "policies": {
            "few": {"policy": "rate_limit", "rate": "2/h", "burst": 10, "store": "redis", "lease": 0.3, **options}
        },
    }


def statuses(edge, count):
    with Caller(edge.port) as caller:
        return [caller.ask().status for _ in range(count)]


def settled(edge):
    """Wait until the lender has nothing to do: all that was used is charged, and leases were given back."""
    edge.until(lambda: not edge.call(lambda: edge.edge._ground.kept["", "lender"]._works))


@needs_redis
def test_two_edges_share_a_limit():
    with (
        RedisProcess() as process,
        EdgeThread(document(process.url)) as one,
        EdgeThread(document(process.url)) as other,
    ):
        accepted = 0
        for _ in range(9):
            for edge in (one, other):
                accepted += statuses(edge, 1) == [200]
        settled(one)
        settled(other)
        accepted += statuses(one, 1) == [200]
        assert 10 <= accepted <= 10 + 2 * 3  # each may not have heard yet of the other's last
        settled(one)
        with Caller(one.port) as caller:
            refused = caller.ask()
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        assert 1700 <= int(refused.headers["retry-after"]) <= 7 * 1800  # what was on credit is paid for


@needs_redis
def test_at_once_and_unheard_of_each_lets_a_lease_through():
    with (
        RedisProcess() as process,
        EdgeThread(document(process.url)) as one,
        EdgeThread(document(process.url)) as other,
    ):
        assert 10 <= sum(statuses(edge, 20).count(200) for edge in (one, other) for _ in range(10)) <= 10 + 2 * 3


@needs_redis
@pytest.mark.parametrize("how", ["freeze", "kill"])
@pytest.mark.parametrize(("on_failure", "wanted"), [("local", [200, 429]), ("allow", [200, 200]), ("deny", [503, 503])])
def test_while_redis_is_out(how, on_failure, wanted):
    """The first that are asked find out that it is; then its configuration says what is done."""
    with RedisProcess() as process:
        raw = document(process.url, "50ms", on_store_failure=on_failure)
        with EdgeThread(raw) as edge:
            statuses(edge, 1)
            settled(edge)
            getattr(process, how)()
            statuses(edge, 2)
            edge.until(lambda: not edge.call(lambda: edge.edge._ground.kept["", "lender"].server.up))
            found = statuses(edge, 12)
            assert [found[0], found[-1]] == wanted
            said = {"local": "alone", "allow": "uncounted", "deny": "failed"}[on_failure]
            edge.until(lambda: ("few", said) in {(each.instance, each.verdict) for each in edge.totals().verdicts})
            if how == "freeze":
                process.thaw()
            else:
                process.start()

            def back():
                statuses(edge, 1)
                return edge.edge._ground.kept["", "lender"].server.up

            edge.until(back)
            settled(edge)


@needs_redis
def test_a_reload_keeps_what_was_used():
    with RedisProcess() as process, EdgeThread(document(process.url)) as edge:
        assert statuses(edge, 2) == [200, 200]
        settled(edge)
        edge.apply(document(process.url))
        accepted = 0
        for _ in range(4):
            accepted += statuses(edge, 6).count(200)
            settled(edge)
        assert accepted == 8


def faults(redis=None, **options):
    config = rate_limit.Config(**{"rate": _rate("5/s"), "store": "redis", **options})
    with pytest.raises(ConfigError) as caught:
        rate_limit.build(config, BuildContext("few", document=decode({"redis": redis or {}})))
    return [(fault.message, fault.hint) for fault in caught.value.faults]


def _rate(text):
    from gatewayd.config.units import Rate

    return Rate.parse(text)


def test_it_needs_a_server():
    assert faults() == [("it needs a Redis server, and there is none", "set redis.url")]


def test_windows_are_not_shared():
    found = faults({"url": "redis://h"}, algorithm="sliding_window")
    assert found == [("no windows are shared", 'see algorithm = "token_bucket"')]
