"""cors: preflights answered, replies marked, other origins passed or refused."""

from __future__ import annotations

import pytest

from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import cors
from gatewayd.rfc.headers import values
from tests.support.exchanges import make_exchange

PORTAL = b"https://portal.example"


def hooks(**options):
    options.setdefault("origins", ["https://portal.example", "https://*.partner.example"])
    return cors.build(cors.Config(**options), BuildContext())


def preflight(origin=PORTAL):
    asked = [
        (b"origin", origin),
        (b"access-control-request-method", b"PUT"),
        (b"access-control-request-headers", b"x-a"),
    ]
    return make_exchange(asked, method=b"OPTIONS")


def simple(origin=PORTAL, **attributes):
    return make_exchange([(b"accept", b"*/*"), (b"origin", origin)] if origin else [], **attributes)


def test_a_preflight_is_answered_here_and_its_reply_stays_as_it_is():
    built = hooks(credentials=True)
    exchange = preflight()
    reply = built.access(exchange)
    assert (reply.status, reply.body, reply.code) == (204, b"", "")
    headers = list(reply.headers)
    built.reply(exchange, headers)
    assert headers == list(reply.headers)
    assert dict(headers)[b"access-control-allow-origin"] == PORTAL
    assert dict(headers)[b"access-control-allow-methods"] == b"PUT"
    assert dict(headers)[b"access-control-allow-headers"] == b"Authorization, Content-Type"
    assert dict(headers)[b"access-control-allow-credentials"] == b"true"
    assert dict(headers)[b"access-control-max-age"] == b"600"


@pytest.mark.parametrize("reject", [False, True])
def test_a_preflight_from_elsewhere(reject):
    reply = hooks(reject=reject).access(preflight(b"https://evil.example"))
    assert (reply.status, reply.code) == ((403, "origin_not_allowed") if reject else (204, ""))
    assert not values(list(reply.headers), b"access-control-allow-origin")


@pytest.mark.parametrize(
    ("exchange", "passes"),
    [
        (simple(), True),
        (simple(b"https://a.partner.example"), True),
        (simple(b""), True),
        (simple(b"https://api.example.com"), True),  # the page's own origin
        (simple(b"https://api.example.com", host=b"api.example.com:443"), True),
        (simple(b"https://evil.example"), False),
        (simple(b"null"), False),
        (simple(b"https://evil.example", method=b"PUT"), False),
        (make_exchange([(b"origin", b"https://evil.example")], method=b"OPTIONS"), False),
    ],
)
def test_requests_from_elsewhere_pass_unless_they_are_rejected(exchange, passes):
    assert hooks().access(exchange) is None
    verdict = hooks(reject=True).access(exchange)
    assert verdict is None if passes else (verdict.status, verdict.code) == (403, "origin_not_allowed")


def test_only_options_requests_are_preflights():
    exchange = preflight()
    exchange.method = b"GET"
    assert hooks().access(exchange) is None
    headers = []
    hooks().reply(exchange, headers)
    assert (b"access-control-allow-origin", PORTAL) in headers


def test_everyone_is_everyone_even_with_reject():
    assert hooks(origins=["*"], reject=True).access(simple(b"https://evil.example")) is None


@pytest.mark.parametrize(
    ("origin", "allowed"), [(PORTAL, [PORTAL]), (b"https://evil.example", []), (b"", []), (b"null", [])]
)
def test_replies_are_marked_and_the_targets_marks_dropped(origin, allowed):
    headers = [(b"access-control-allow-origin", b"*"), (b"vary", b"Accept")]
    hooks(expose=["ETag"]).reply(simple(origin), headers)
    assert values(headers, b"access-control-allow-origin") == allowed
    assert values(headers, b"access-control-expose-headers") == ([b"ETag"] if allowed else [])
    assert values(headers, b"vary") == [b"Accept, Origin"]


def test_a_plain_options_request_is_a_request_like_any_other():
    exchange = make_exchange([(b"origin", PORTAL)], method=b"OPTIONS")
    assert hooks().access(exchange) is None
    headers = []
    hooks().reply(exchange, headers)
    assert (b"access-control-allow-origin", PORTAL) in headers


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"origins": []}, ["origins"]),
        ({"origins": ["https://ok.example", "null", "https://a.example/"]}, ["origins[1]", "origins[2]"]),
        ({"origins": ["*"], "credentials": True}, ["credentials"]),
        ({"expose": ["*"], "credentials": True}, ["expose"]),
        ({"origins": ["*", "x"], "expose": ["*"], "credentials": True}, ["origins[1]", "credentials", "expose"]),
    ],
)
def test_tables_that_cannot_work(options, paths):
    with pytest.raises(ConfigError) as caught:
        hooks(**options)
    assert [fault.path for fault in caught.value.faults] == paths


def test_it_asks_for_preflights_and_explains_itself():
    assert cors.PREFLIGHT
    assert not cors.STACKS
    assert hooks(origins=["*"]).explain == "any origin; others get no CORS fields"
    assert hooks(origins=["https://a.example"], reject=True).explain == "https://a.example; others are refused"
