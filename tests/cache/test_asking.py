"""The request of a fetch."""

from __future__ import annotations

from gatewayd.cache.asking import ask_for_all, conditions_for
from gatewayd.rfc.conditional import Validators
from tests.support.exchanges import RecordedReply, make_exchange

from .entries import entry

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_it_is_the_callers_less_what_is_his_alone():
    own = [(b"range", b"bytes=0-1"), (b"if-range", b"x"), (b"if-none-match", b"x"), (b"if-modified-since", b"x")]
    exchange = make_exchange([(b"accept", b"a"), *own], params={"id": b"7"}, query=b"q", forwarding=b"f", upgrade=b"u")
    downstream = RecordedReply()
    inner = ask_for_all(exchange, downstream, [(b"if-none-match", b'"e"')], 7.0)
    assert inner.headers == [(b"accept", b"a"), (b"if-none-match", b'"e"')]
    assert exchange.headers == [(b"accept", b"a"), *own]
    for name in ("host", "path", "query", "params", "forwarding", "request_id", "scheme", "peer", "client"):
        assert getattr(inner, name) == getattr(exchange, name)
    assert (inner.method, inner.upgrade, inner.started, inner.route) == (b"GET", b"", 7.0, None)
    assert inner.downstream is downstream


def test_conditions():
    tagged = entry(held=Validators(b'"a"', 7.0, DATE))
    weak = entry(held=Validators(b'W/"b"'))
    dated = entry(held=Validators(b"", 7.0, DATE))
    assert conditions_for([], False) == []
    assert conditions_for([tagged], True) == [(b"if-none-match", b'"a"'), (b"if-modified-since", DATE)]
    assert conditions_for([dated], True) == [(b"if-modified-since", DATE)]
    assert conditions_for([tagged, weak], False) == [(b"if-none-match", b'"a", W/"b"')]
