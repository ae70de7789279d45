"""acl: deny before allow, refusal by default, and what a caller learns of it."""

from __future__ import annotations

import pytest

from gatewayd.config.model import Document, Route, StaticReply
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.identity.rules import Rule
from gatewayd.policies import acl
from tests.support.callers import known
from tests.support.edge import EdgeThread
from tests.support.exchanges import make_exchange
from tests.support.raw import Caller

STAFF, PARTNER = known("s", groups=["staff"]), known("p", groups=["partners"])


def hooks(deny=(), allow=()):
    document = Document(routes={"claims": Route(path="/c", reply=StaticReply())})
    config = acl.Config(deny=[Rule(**rule) for rule in deny], allow=[Rule(**rule) for rule in allow])
    return acl.build(config, BuildContext("acl", document=document))


def refused(hooks, identity, **attributes):
    verdict = hooks.access(make_exchange(identity=identity, **attributes))
    assert verdict is None or (verdict.status, verdict.code) == (403, "not_allowed")
    return verdict is not None


def test_where_something_is_allowed_the_rest_is_not():
    rules = hooks(allow=[{"groups": ["staff"]}, {"methods": ["GET"]}])
    assert not refused(rules, STAFF, method=b"POST")
    assert not refused(rules, None, method=b"GET")
    assert refused(rules, PARTNER, method=b"POST")
    assert refused(rules, None, method=b"POST")


def test_deny_wins_whatever_allows():
    rules = hooks(deny=[{"methods": ["DELETE"]}], allow=[{"groups": ["staff"]}])
    assert refused(rules, STAFF, method=b"DELETE")
    assert not refused(rules, STAFF, method=b"GET")


def test_with_denials_alone_the_rest_passes():
    rules = hooks(deny=[{"consumers": ["p"]}])
    assert refused(rules, PARTNER)
    assert not refused(rules, STAFF)
    assert not refused(rules, None)


def test_a_refusal_names_nothing_of_the_rules():
    verdict = hooks(allow=[{"groups": ["secret-project"]}]).access(make_exchange())
    assert b"secret-project" not in verdict.body
    assert verdict == hooks(deny=[{"methods": ["GET"]}]).access(make_exchange())


def test_explain_says_the_rules_and_which_one_decides():
    rules = hooks(deny=[{"methods": ["DELETE"]}], allow=[{"groups": ["staff"]}, {"consumers": ["p"]}])
    assert rules.explain == "deny methods DELETE; allow groups staff; allow consumers p"
    assert rules.why(make_exchange(identity=PARTNER)) == "allow[1] holds: consumers p"
    assert rules.why(make_exchange(identity=PARTNER, method=b"DELETE")) == "deny[0] holds: methods DELETE"
    assert rules.why(make_exchange()) == "no rule holds"


def test_everything_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        hooks(deny=[{"routes": ["claims", "clams"]}, {"methods": ["PUT", "delete"]}], allow=[{}])
    found = [(fault.path, fault.found) for fault in caught.value.faults]
    assert found == [("deny[0].routes[1]", "clams"), ("deny[1].methods[1]", "delete"), ("allow[0]", "")]
    with pytest.raises(ConfigError, match="there is no rule"):
        hooks()


def test_on_a_route_without_authentication_callers_are_nobody():
    document = {
        "routes": {"all": {"path": "/{id}", "reply": {}, "policies": ["acl"]}},
        "policies": {"acl": {"deny": [{"params": {"id": ["a+b"]}}], "allow": [{"methods": ["GET"]}]}},
    }
    override = "X-HTTP-Method-Override: GET"
    with EdgeThread(document) as edge, Caller(edge.port) as caller:
        assert caller.ask("/x").status == 200
        assert caller.ask("/x", method="POST").code == "not_allowed"
        assert caller.ask("/x", override, method="POST").code == "not_allowed"
        assert caller.ask("/a%2bb").code == "not_allowed"
