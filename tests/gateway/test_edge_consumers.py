"""Reloads with other consumers: former ones are let go of, for good."""

from __future__ import annotations

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.errors import ConfigError
from tests.gateway.test_edge import saying, swept
from tests.support.edge import EdgeThread


def knowing(*names, **more):
    return saying("hi", consumers={name: {} for name in names}, gateway={"drain_timeout": "30s"}, **more)


def held(edge):
    """How many indexes this worker reads."""
    return sum(edge.edge._ground.arena._held.values())


def test_a_former_index_is_held_until_no_exchange_can_ask_it() -> None:
    clock = FakeClock()
    with EdgeThread(knowing("anna"), clock=clock) as edge:
        first = edge.edge._pipeline.snapshot.consumers
        edge.apply(knowing("bert"))
        assert held(edge) == 2
        assert first.by_id("anna")
        clock.advance(29)
        swept(edge)
        assert held(edge) == 2
        clock.advance(1)
        swept(edge)
        assert held(edge) == 1
        with pytest.raises(ValueError, match="released"):
            first.by_id("bert")
        assert edge.edge._pipeline.snapshot.consumers.by_id("bert")


def test_many_reloads_take_no_more_memory_than_a_few() -> None:
    clock = FakeClock()
    with EdgeThread(knowing("c0"), clock=clock) as edge:
        for number in range(1, 20):
            edge.apply(knowing(f"c{number}"))
            clock.advance(30)
            swept(edge)
        assert held(edge) == 1
        assert len(list(edge.edge._ground.arena._entries())) <= 3


def test_a_reload_of_something_else_keeps_the_index() -> None:
    clock = FakeClock()
    with EdgeThread(knowing("anna"), clock=clock) as edge:
        edge.apply(knowing("anna", limits={"headers": 50}))
        clock.advance(30)
        swept(edge)
        assert held(edge) == 1
        assert edge.edge._pipeline.snapshot.consumers.by_id("anna")


def test_a_reload_that_fails_behind_the_build_lets_go() -> None:
    clock = FakeClock()
    with EdgeThread(knowing("anna"), clock=clock) as edge:
        with pytest.raises(ConfigError):
            edge.apply(knowing("bert", access_log={"path": "/does/not/exist/access.log"}))
        assert held(edge) == 1
        assert edge.edge._pipeline.snapshot.consumers.by_id("anna")
