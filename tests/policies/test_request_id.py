"""request_id: whose ids are taken over, and where they go."""

from __future__ import annotations

import subprocess
import sys
from uuid import UUID

import pytest

from gatewayd import policies
from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import request_id
from tests.support.exchanges import make_exchange

OURS = b"0123456789abcdef"


def hooks(**options):
    return request_id.build(request_id.Config(**options), BuildContext(clock=FakeClock(wall=1_800_000_000.5)))


def after(options, **exchange):
    made = make_exchange(**exchange)
    access = hooks(**options).access
    assert access is None or access(made) is None
    return made


BROUGHT = [(b"x-request-id", b"caller-1")]


@pytest.mark.parametrize(
    ("accept", "trusted", "taken"),
    [("never", True, False), ("trusted", False, False), ("trusted", True, True), ("always", False, True)],
)
def test_whose_id_is_taken_over(accept, trusted, taken):
    exchange = after({"accept": accept}, withheld=BROUGHT, peer_trusted=trusted)
    assert exchange.request_id == (b"caller-1" if taken else OURS)
    assert exchange.headers == []


def test_trusted_proxies_are_believed_by_default_and_nothing_costs_where_nobody_is():
    assert request_id.Config().accept == "trusted"
    assert hooks(accept="never").access is None
    assert hooks().reply is None


@pytest.mark.parametrize("value", [b"a", b"A.b_c-1", b"x" * 128])
def test_acceptable_ids(value):
    assert after({"accept": "always"}, withheld=[(b"x-request-id", value)]).request_id == value


@pytest.mark.parametrize("value", [b"", b"x" * 129, b"a b", b'a"', b"a\n", b"\xff", b"{}", b"a,b"])
def test_ids_that_could_do_harm_in_logs_are_not_taken(value):
    assert after({"accept": "always"}, withheld=[(b"x-request-id", value)]).request_id == OURS


def test_two_ids_are_none():
    assert after({"accept": "always"}, withheld=BROUGHT * 2).request_id == OURS


@pytest.mark.parametrize(("accept", "sent"), [("never", OURS), ("always", b"caller-1")])
def test_under_another_name_it_is_sent_both_ways(accept, sent):
    options = {"header": "X-Correlation-Id", "accept": accept}
    headers = [(b"accept", b"*/*"), (b"x-correlation-id", b"caller-1")]
    exchange = after(options, headers=headers, withheld=BROUGHT)
    assert exchange.request_id == sent
    assert exchange.headers == [(b"accept", b"*/*"), (b"x-correlation-id", sent)]
    reply = [(b"x-correlation-id", b"the target's"), (b"etag", b"x")]
    hooks(**options).reply(exchange, reply)
    assert reply == [(b"etag", b"x"), (b"x-correlation-id", sent)]


def test_without_echo_another_name_stays_out_of_replies():
    assert hooks(header="X-Correlation-Id", echo=False).reply is None


def test_uuids_carry_the_time_and_differ():
    ids = {after({"format": "uuid7"}).request_id for _ in range(200)}
    assert len(ids) == 200
    for text in ids:
        made = UUID(text.decode())
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"
        assert str(made).encode() == text
        assert made.int >> 80 == 1_800_000_000_500


def test_an_accepted_id_is_not_replaced_by_a_uuid():
    exchange = after({"format": "uuid7", "accept": "always"}, withheld=BROUGHT)
    assert exchange.request_id == b"caller-1"


@pytest.mark.parametrize("header", ["Via", "Host", "X-Forwarded-For", "X_Id", "Connection", "X-Consumer-Id"])
def test_headers_with_another_meaning_are_refused(header):
    with pytest.raises(ConfigError) as caught:
        hooks(header=header)
    assert [fault.path for fault in caught.value.faults] == ["header"]


def test_x_request_id_cannot_be_kept_from_callers():
    with pytest.raises(ConfigError) as caught:
        hooks(header="x-request-id", echo=False)
    assert [fault.path for fault in caught.value.faults] == ["echo"]


def test_explain():
    assert hooks(accept="always", format="uuid7").explain == "uuid7 id in X-Request-Id, taken over from callers: always"


# The list of policies, which has no test file of its own.


def test_policies_are_loaded_by_name_when_they_are_used():
    script = "import sys; from gatewayd import policies; policies.load('request_id'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("gatewayd.policies.")}
    assert loaded == {"gatewayd.policies.request_id"}


@pytest.mark.parametrize("name", policies.ORDER)
def test_every_policy_keeps_the_contract(name):
    policy = policies.load(name)
    assert isinstance(policy.STACKS, bool)
    assert policy.Config.__struct_config__.frozen
    assert policy.Config.__struct_config__.forbid_unknown_fields
    assert not {"policy", "mode", "failure"} & set(policy.Config.__struct_fields__)


def test_an_unknown_policy_is_refused_with_a_hint():
    with pytest.raises(ConfigError) as caught:
        policies.load("header")
    assert caught.value.faults[0].hint == "did you mean headers?"
