"""Names, values and lists of header fields."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import RequestError
from gatewayd.rfc import headers as rules
from gatewayd.rfc.headers import (
    FORBIDDEN_CONNECTION_OPTIONS,
    FORBIDDEN_TRAILERS,
    WITHHELD,
    WITHHELD_FROM_REPLIES,
    WITHHELD_FROM_REQUESTS,
    WithheldNames,
    connection_options,
    elements,
    http_date,
    is_field_value,
    is_token,
    is_withheld,
    one,
    values,
    vary_on,
)


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "proxy-connection",
        "proxy-anything",
        "proxy",
        "host",
        "content-length",
        "expect",
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-anything",
        "x-real-ip",
        "x-request-id",
        "x-consumer-id",
        "x-consumer-",
        "x-credential-id",
        "x-gateway-token",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x_forwarded_for",
        "a_b",
        "_",
        "x-original-url",
        "client-cert",
        "client-cert-chain",
    ],
)
def test_callers_cannot_send_these_on(name):
    assert WITHHELD[name.encode()]
    assert is_withheld(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "accept",
        "authorization",
        "cookie",
        "content-type",
        "date",
        "x-forwarded-forx-y",
        "x-consumers",
        "forwarded-for",
        "proxyx",
        "origin",
        "range",
        "te-x",
        "cache-control",
    ],
)
def test_callers_can_send_these_on(name):
    withheld = name.startswith("x-forwarded-")
    assert WITHHELD[name.encode()] == withheld
    assert is_withheld(name.encode()) == withheld


@given(st.binary(max_size=80))
def test_remembered_and_computed_verdicts_agree(name):
    assert WITHHELD[name] == is_withheld(name) == WITHHELD[name]


def test_callers_cannot_fill_the_memory_of_names():
    names = WithheldNames([b"accept"])
    for number in range(10_000):
        assert names[b"x-%d" % number] is False
        assert names[b"x_%d" % number] is True
    assert len(names) == rules._KNOWN_NAMES_LIMIT
    long = b"x" * 65
    small = WithheldNames([])
    assert small[long] is False
    assert long not in small
    assert names[b"accept"] is False
    assert names[b"via"] is True


def test_sets_are_lower_case_tokens():
    every = WITHHELD_FROM_REQUESTS | WITHHELD_FROM_REPLIES | FORBIDDEN_CONNECTION_OPTIONS | FORBIDDEN_TRAILERS
    assert all(is_token(name) and name == name.lower() for name in every)


def test_ordinary_connection_options_are_allowed():
    assert not FORBIDDEN_CONNECTION_OPTIONS & {b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b"x-mine"}


@given(st.binary(max_size=4))
def test_tokens_are_what_the_grammar_lists(text):
    tchar = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert is_token(text) == (len(text) > 0 and all(byte in tchar for byte in text))


@pytest.mark.parametrize("value", [b"", b"a b\tc", b"\xff\x80", b'"x"'])
def test_values(value):
    assert is_field_value(value)


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\nb", b"a\rb", b"\0", b"\x7f", b"\x01", b" a", b"a\t", b"\x1b["])
def test_what_is_no_value(value):
    assert not is_field_value(value)


def test_one_value_or_none_or_a_refusal():
    headers = [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert one(headers, b"a") == b"1"
    assert one(headers, b"c") is None
    assert values(headers, b"b") == [b"2", b"3"]
    with pytest.raises(RequestError) as caught:
        one(headers, b"b")
    assert (caught.value.status, caught.value.code, caught.value.close) == (400, "header_repeated", False)


def test_elements_leave_empty_ones_out():
    assert elements([b"a, b\t,", b"", b",c"]) == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ([], set()),
        ([b"keep-alive"], {b"keep-alive"}),
        ([b"Keep-Alive"], {b"keep-alive"}),
        ([b"keep-alive, Upgrade"], {b"keep-alive", b"upgrade"}),
        ([b"CLOSE"], {b"close"}),
        ([b"TE, close", b" X-Mine ,"], {b"te", b"close", b"x-mine"}),
        ([b""], set()),
    ],
)
def test_connection_options(fields, options):
    assert connection_options(fields) == options


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [b"Origin"]),
        ([b"Accept"], [b"Accept, Origin"]),
        ([b"Accept", b"Cookie, Accept-Encoding"], [b"Accept, Cookie, Accept-Encoding, Origin"]),
        ([b"origin"], [b"origin"]),
        ([b"Accept", b"ORIGIN"], [b"Accept", b"ORIGIN"]),
        ([b"*"], [b"*"]),
        ([b"Accept", b"*"], [b"Accept", b"*"]),
        ([b""], [b"", b"Origin"]),
    ],
)
def test_vary(before, after):
    headers = [(b"date", b"x"), *((b"vary", value) for value in before), (b"etag", b"y")]
    vary_on(headers, b"Origin")
    assert values(headers, b"vary") == after
    assert values(headers, b"etag") == [b"y"]


def test_dates():
    assert http_date(784111777.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(784111777.1) is http_date(784111777.95)
    assert http_date(784111778) == b"Sun, 06 Nov 1994 08:49:38 GMT"


@given(st.integers(0, 253402300799))
def test_dates_read_back(second):
    assert parsedate_to_datetime(http_date(second).decode()).timestamp() == second
