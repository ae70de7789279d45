"""The snapshot: a generation as compiled, sharing nothing with the next one."""

from __future__ import annotations

from gatewayd.config.model import Document
from gatewayd.core.policy import Hooks
from gatewayd.gateway.snapshot import ChainLink, Snapshot


def test_a_link_says_what_its_hooks_do():
    link = ChainLink("offices", "ip_restriction", "enforce", "closed", Hooks(explain="allow 3 ranges"))
    assert link.explain == "allow 3 ranges"


def test_instances_show_what_they_are_and_what_they_say():
    link = ChainLink("fair", "rate_limit", "observe", "closed", Hooks())
    figures = {"fair": [lambda: {"keys": 1}, lambda: {"more": 2}], "gone": [lambda: {"keys": 3}]}
    snapshot = Snapshot(1, Document(), links={"fair": link}, figures=figures)
    assert snapshot.shown() == {"fair": {"policy": "rate_limit", "mode": "observe", "keys": 1, "more": 2}}


def test_generations_share_no_tables():
    one, two = Snapshot(1, Document()), Snapshot(2, Document())
    for name in ("routers", "routes", "chains", "upstreams", "figures"):
        assert getattr(one, name) == {}
        assert getattr(one, name) is not getattr(two, name)
