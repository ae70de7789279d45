"""quota over several machines: one number for all of them, kept by each and summed up in Redis."""

from __future__ import annotations

import pytest

from gatewayd.config.model import decode
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import quota
from tests.support.edge import EdgeThread
from tests.support.raw import Caller
from tests.support.redis_server import RedisProcess, needs_redis


def document(url, state, **options):
    return {
        "redis": {"url": url, "timeout": "10s"},
        "gateway": {"workers": 1, "state_dir": str(state)},
        "routes": {"all": {"path": "/*", "reply": {"body": "fine"}, "policies": ["ten"]}},
        "policies": {
            "ten": {"policy": "quota", "limit": 10, "per": "year", "key": "address", "store": "redis", **options}
        },
    }


def ask(edge):
    """One request, after which all that was used is charged and leases are given back."""
    with Caller(edge.port) as caller:
        found = caller.ask()
    edge.until(lambda: not edge.call(lambda: edge.edge._ground.kept["", "lender"]._works))
    return found


@needs_redis
def test_two_edges_share_a_quota_and_a_restart_forgets_nothing(tmp_path):
    """A flushed Redis neither: each edge tells it what it used."""
    with RedisProcess() as process:
        first, second = (document(process.url, tmp_path / name) for name in ("one", "other"))
        with EdgeThread(first) as one, EdgeThread(second) as other:
            assert [ask(edge).status for edge in (one, other) * 3] == [200] * 6
        process.command("FLUSHALL")
        with EdgeThread(first) as one, EdgeThread(second) as other:
            found = [ask(edge) for edge in (one, other) * 3]
        assert [answer.status for answer in found[:4]] == [200] * 4
        assert found[5].status == 429
        assert found[5].code == "quota_exceeded"
        assert int(found[5].headers["retry-after"]) >= 1
        name = next(iter(process.command("KEYS", "*")))
        assert int(process.command("HGET", name, "all")) in (10, 11)  # one on credit, unheard of by the other


def test_it_needs_a_server():
    with pytest.raises(ConfigError) as caught:
        quota.build(quota.Config(limit=5, store="redis"), BuildContext("few", document=decode({})))
    assert [fault.hint for fault in caught.value.faults] == ["set redis.url"]
