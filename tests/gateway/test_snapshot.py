"""The snapshot: a generation as compiled, sharing nothing with the next one."""

from __future__ import annotations

from gatewayd.config.model import Document
from gatewayd.core.policy import Hooks
from gatewayd.gateway.snapshot import ChainLink, Snapshot


def test_a_link_says_what_its_hooks_do():
    link = ChainLink("offices", "ip_restriction", "enforce", "closed", Hooks(explain="allow 3 ranges"))
    assert link.explain == "allow 3 ranges"


def test_generations_share_no_tables():
    one, two = Snapshot(1, Document()), Snapshot(2, Document())
    for name in ("routers", "routes", "chains", "upstreams"):
        assert getattr(one, name) == {}
        assert getattr(one, name) is not getattr(two, name)
