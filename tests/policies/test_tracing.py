"""tracing: whose trace goes on, what targets get instead of it, and what callers are told of the time."""

from __future__ import annotations

import re

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.core.trace import asking_span
from gatewayd.errors import ConfigError
from gatewayd.policies import tracing
from tests.support.edge import EdgeThread, proxied
from tests.support.exchanges import make_exchange
from tests.support.raw import Caller
from tests.support.sent import asked, forwarded
from tests.support.upstream import ScriptedUpstream

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{SPAN}-{flags}".encode() for flags in ("01", "00"))
ACCEPT = (b"accept", b"*/*")


def hooks(clock: FakeClock | None = None, **options) -> Hooks:
    context = BuildContext(instance="tracing", clock=clock or FakeClock())
    return tracing.build(tracing.Config(**options), context)


def after(options, *brought: tuple[bytes, bytes], **attributes):
    exchange = make_exchange([ACCEPT, *brought], **attributes)
    assert hooks(**options).access(exchange) is None
    return exchange


def sent(exchange, name: bytes) -> list[bytes]:
    return [value for found, value in exchange.headers if found == name]


@pytest.mark.parametrize(
    ("trust", "trusted", "goes_on"),
    [
        ("all", False, True),
        ("all", True, True),
        ("trusted_proxies", False, False),
        ("trusted_proxies", True, True),
        ("none", False, False),
        ("none", True, False),
    ],
)
def test_whose_trace_goes_on(trust, trusted, goes_on):
    brought = [(b"traceparent", SAMPLED), (b"tracestate", b"foo=1")]
    exchange = after({"trust": trust, "sample": 0}, *brought, peer_trusted=trusted)
    trace = exchange.trace
    assert (trace.trace_id == TRACE, trace.parent_id == SPAN) == (goes_on, goes_on)
    assert (trace.sampled, trace.state) == ((True, "foo=1") if goes_on else (False, ""))
    flags = "01" if goes_on else "02"
    assert sent(exchange, b"traceparent") == [f"00-{trace.trace_id}-{asking_span(trace.span_id)}-{flags}".encode()]
    assert sent(exchange, b"tracestate") == ([b"foo=1"] if goes_on else [])
    assert exchange.headers[0] == ACCEPT


def test_by_default_trusted_proxies_are_believed_and_a_tenth_is_sampled():
    assert (tracing.Config().trust, tracing.Config().sample, tracing.Config().server_timing) == (
        "trusted_proxies", 0.1, "off",
    )  # fmt: skip


@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_without_a_trace_one_begins(sample):
    exchange = after({"sample": sample})
    trace = exchange.trace
    assert trace.sampled == bool(sample)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[23]", sent(exchange, b"traceparent")[0])
    assert sent(exchange, b"tracestate") == ([b"ot=th:0"] if sample else [])
    assert exchange.context is None


@pytest.mark.parametrize(
    "brought",
    [
        [(b"traceparent", SAMPLED)] * 2,
        [(b"traceparent", SAMPLED), (b"traceparent", UNSAMPLED)],
        [(b"traceparent", SAMPLED.upper())],
        [(b"tracestate", b"foo=1")],
    ],
)
def test_what_cannot_be_continued_is_replaced_and_its_state_dropped(brought):
    exchange = after({"trust": "all", "sample": 0}, *brought)
    assert exchange.trace.parent_id == ""
    assert exchange.trace.trace_id != TRACE
    assert len(sent(exchange, b"traceparent")) == 1
    assert sent(exchange, b"tracestate") == []


def test_states_in_several_fields_become_one():
    states = [(b"tracestate", b"foo=1"), (b"tracestate", b"bar=2")]
    exchange = after({"trust": "all"}, states[0], (b"traceparent", SAMPLED), states[1])
    assert sent(exchange, b"tracestate") == [b"foo=1,bar=2"]


@pytest.mark.parametrize(("follow", "sampled"), [(True, True), (False, False)])
def test_whose_decision_counts(follow, sampled):
    assert after({"trust": "all", "follow": follow, "sample": 0}, (b"traceparent", SAMPLED)).trace.sampled == sampled


@pytest.mark.parametrize(("trusted", "value", "forced"), [
    (True, b"sample", True),
    (True, b"timing, sample", True),
    (True, b"timing", False),
    (True, b"samples", False),
    (False, b"sample", False),
])  # fmt: skip
@pytest.mark.parametrize("brought", [[], [(b"traceparent", UNSAMPLED), (b"tracestate", b"ot=th:8,foo=1")]])
def test_who_is_trusted_may_have_a_trace_sampled(trusted, value, forced, brought):
    exchange = after({"sample": 0}, *brought, (b"gatewayd-trace", value), peer_trusted=trusted)
    assert exchange.trace.sampled == forced
    assert sent(exchange, b"traceparent")[0].endswith((b"1", b"3") if forced else (b"0", b"2"))
    assert sent(exchange, b"gatewayd-trace") == []
    if brought and trusted:
        assert sent(exchange, b"tracestate") == [b"foo=1" if forced else b"ot=th:8,foo=1"]


def timed(options, *brought, ask_target: bool = True, **attributes):
    """Server-Timing of a reply: 2 ms in other hooks, 5 ms for the target, 1 ms behind it."""
    clock = FakeClock()
    made = hooks(clock, **options)
    exchange = make_exchange([*brought], started=clock.now, **attributes)
    made.access(exchange)
    clock.advance(0.002)

    def handler(exchange):
        clock.advance(0.005)
        if ask_target:
            exchange.attempts, exchange.upstream_seconds = 1, clock.now - exchange.started
            clock.advance(0.001)

    if made.handler is not None:
        made.handler(handler)(exchange)
    headers = [(b"server-timing", b"db;dur=3")]
    if made.reply is not None:
        made.reply(exchange, headers)
    return exchange, [value.decode() for _, value in headers[1:]]


def test_what_callers_are_told_of_the_time():
    exchange, (said,) = timed({"server_timing": "on"})
    trace = exchange.trace
    parent = f"00-{trace.trace_id}-{trace.span_id}-0{2 + trace.sampled}"
    assert said == f'total;dur=8.000, gateway;dur=3.000, upstream;dur=5.000, traceparent;desc="{parent}"'


def test_without_a_target_all_of_it_is_the_gateways():
    _, (said,) = timed({"server_timing": "on"}, ask_target=False)
    assert said.startswith("total;dur=7.000, gateway;dur=7.000, traceparent;")


@pytest.mark.parametrize(("setting", "value", "told"), [
    ("off", b"timing", False),
    ("request", b"timing", True),
    ("request", b"sample,  timing", True),
    ("request", b"sample", False),
    ("on", b"", True),
])  # fmt: skip
def test_who_is_told(setting, value, told):
    _, said = timed({"server_timing": setting}, (b"gatewayd-trace", value))
    assert bool(said) == told


def test_a_call_refused_on_the_way_is_told_its_time_and_one_refused_before_is_not():
    clock = FakeClock()
    made = hooks(clock, server_timing="on")
    exchange = make_exchange([], started=clock.now, context={"other": 1})
    made.access(exchange)
    clock.advance(0.004)
    headers = []
    made.reply(exchange, headers)
    assert headers[0][1].startswith(b"total;dur=4.000, gateway;dur=4.000, traceparent;")
    assert exchange.context["other"] == 1
    headers = []
    made.reply(make_exchange(), headers)
    assert headers == []


def test_what_costs_nothing_where_it_is_off():
    made = hooks()
    assert made.reply is None
    handler = object()
    assert made.handler(handler) is handler


def test_explain():
    assert hooks(sample=0.25, trust="none").explain == "0.25 of all traces sampled; callers' continued: none"


# Over a socket.


def document(port: int, **options):
    made = proxied(port)
    made["policies"] = {"tracing": options}
    made["gateway"] = {"policies": ["tracing"]}
    return made


REQUEST = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nTraceParent: %b\r\nTraceState: rojo=1\r\ntracestate: congo=2\r\n\r\n" % SAMPLED
)


def test_a_target_gets_our_trace_and_nothing_of_the_callers():
    request, reply = forwarded(lambda port: document(port, trust="all", server_timing="on"), REQUEST)
    (parent,) = request.values(b"traceparent")
    found = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", parent.decode())
    assert found
    assert found[1] != SPAN
    assert request.values(b"tracestate") == [b"rojo=1,congo=2"]
    said = reply.headers["server-timing"]
    assert f'traceparent;desc="00-{TRACE}-{asking_span(found[1])}-01"' in said
    assert [part.partition(";")[0] for part in said.split(", ")] == ["total", "gateway", "upstream", "traceparent"]


def test_another_trace_begins_for_each_request_of_a_caller_nobody_believes():
    with ScriptedUpstream() as up, EdgeThread(document(up.port, sample=0)) as edge, Caller(edge.port) as caller:
        parents = []
        for _ in range(2):
            caller.send(REQUEST)
            assert caller.answer().status == 200
            parents += asked(up).values(b"traceparent")
            assert asked(up).values(b"tracestate") == []
    assert len(set(parents)) == 2
    assert not [each for each in parents if TRACE.encode() in each or not each.endswith(b"-02")]


def test_a_plan_cannot_have_it():
    made = document(1) | {"plans": {"gold": {"policies": ["tracing"]}}}
    with pytest.raises(ConfigError, match="a plan cannot have a tracing"), EdgeThread(made):
        pass
