"""Signatures taken apart: the vectors of RFC 9421, and what can be read in two ways."""

from __future__ import annotations

import base64

import pytest

from gatewayd.identity import signatures
from gatewayd.identity.jose import Refused
from gatewayd.identity.signature_keys import check_of
from gatewayd.identity.signatures import base, check_digest, check_times, read, uncovered
from tests.identity import rfc9421
from tests.support.exchanges import make_exchange


def shown_in(*fields, label="", **attributes):
    """What is read from Signature-Input and Signature fields, given in turn."""
    names = (b"signature-input", b"signature")
    headers = [(names[at % 2], field.encode()) for at, field in enumerate(fields) if field]
    return read(make_exchange(headers, **attributes), label)


def based_on(components, **attributes):
    """The lines that a signature over `components` covers, without the last."""
    headers = attributes.pop("headers", [])
    exchange = make_exchange(
        [*headers, (b"signature-input", f"s=({components})".encode()), (b"signature", b"s=:AA==:")], **attributes
    )
    return base(exchange, read(exchange)).decode().splitlines()[:-1]


@pytest.mark.parametrize("label", rfc9421.REQUESTS)
def test_the_vectors_of_the_rfc(label):
    exchange = rfc9421.request(**{label.replace("-", "_"): rfc9421.REQUESTS[label]})
    shown = read(exchange)
    check = check_of(*rfc9421.KEYS[shown.text("keyid")])
    assert check(shown.signature, base(exchange, shown))
    exchange.host = b"example.org"
    exchange.method = b"PUT"
    if label != "sig-b21":  # covers nothing
        assert not check(shown.signature, base(exchange, shown))


def test_a_base_line_by_line():
    described = rfc9421.REQUESTS["sig-b23"]
    exchange = rfc9421.request(sig_b23=described)
    assert base(exchange, read(exchange)).decode() == (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n'
        '"@method": POST\n'
        '"@path": /foo\n'
        '"@query": ?param=Value&Pet=dog\n'
        '"@authority": example.com\n'
        '"content-type": application/json\n'
        f'"content-digest": {rfc9421.DIGEST}\n'
        '"content-length": 18\n'
        f'"@signature-params": {described[0]}'
    )


@pytest.mark.parametrize(
    ("component", "line", "attributes"),
    [
        ('"@method"', '"@method": GET', {}),
        ('"@scheme"', '"@scheme": https', {}),
        ('"@authority"', '"@authority": api.example.com', {"host": b"api.example.com:443"}),
        ('"@authority"', '"@authority": api.example.com:80', {"host": b"api.example.com:80"}),
        ('"@authority"', '"@authority": a', {"host": b"a:80", "scheme": b"http"}),
        ('"@path"', '"@path": /v1/x', {"query": b"a=1"}),
        ('"@query"', '"@query": ?', {}),
        ('"@query"', '"@query": ?', {"query": b""}),
        ('"@query"', '"@query": ?a=%2F&b', {"query": b"a=%2F&b"}),
        ('"@request-target"', '"@request-target": /v1/x', {}),
        ('"@request-target"', '"@request-target": /v1/x?', {"query": b""}),
        ('"@target-uri"', '"@target-uri": https://api.example.com/v1/x?a=1', {"query": b"a=1"}),
        ('"@query-param";name="a"', '"@query-param";name="a": 1', {"query": b"b=2&a=1"}),
        ('"@query-param";name="a"', '"@query-param";name="a": ', {"query": b"a"}),
        ('"@query-param";name="a"', '"@query-param";name="a": x%20y%7E%2B', {"query": b"a=x+y~%2b"}),
        ('"@query-param";name="%C3%A4"', '"@query-param";name="%C3%A4": 1', {"query": b"%c3%a4=1"}),
        ('"a"', '"a": 1, 2', {"headers": [(b"a", b"1"), (b"b", b"3"), (b"a", b"2")]}),
        ('"a"', '"a": ', {"headers": [(b"a", b"")]}),
        ('"content-length"', '"content-length": 5', {"withheld": [(b"content-length", b"5")]}),
    ],
)
def test_components(component, line, attributes):
    assert based_on(component, **attributes) == [line]


@pytest.mark.parametrize(
    ("component", "attributes"),
    [
        ('"missing"', {}),
        ('"@status"', {}),
        ('"@unheard-of"', {"headers": [(b"@unheard-of", b"x")]}),
        ('"a";sf', {"headers": [(b"a", b"1")]}),
        ('"a";key="b"', {"headers": [(b"a", b"b=1")]}),
        ('"a";bs', {"headers": [(b"a", b"1")]}),
        ('"a";tr', {"headers": [(b"a", b"1")]}),
        ('"@method";req', {}),
        ('"@query-param"', {"query": b"a=1"}),
        ('"@query-param";name="a";req', {"query": b"a=1"}),
        ('"@query-param";name=a', {"query": b"a=1"}),
        ('"@query-param";name="a"', {"query": b"b=1"}),
        ('"@query-param";name="a"', {}),
        ('"@query-param";name="a"', {"query": b"a=1&a=2"}),
        ('"@query-param";name="a"', {"query": b"a=%ff"}),
        ('"@signature-params"', {}),
    ],
)
def test_components_that_are_not_here_or_not_understood(component, attributes):
    with pytest.raises(Refused):
        based_on(component, **attributes)


def test_what_is_signed_in_another_order_is_something_else():
    assert based_on('"@method" "@path"') == list(reversed(based_on('"@path" "@method"')))


INPUT = '("@method");created=1;keyid="k"'


def test_nothing_shown():
    assert shown_in() is None
    assert shown_in(f"a={INPUT}", "a=:AA==:", label="b") is None


@pytest.mark.parametrize("label", ["", "a"])
@pytest.mark.parametrize(
    "fields",
    [
        (f"a={INPUT}", ""),
        ("", "a=:AA==:"),
        (f"a={INPUT}", "b=:AA==:"),
        (f"a={INPUT}", "a=AA"),
        (f"a={INPUT}", 'a="AA"'),
        (f"a={INPUT}", "a=(:AA==:)"),
        (f"a={INPUT}", "a=:AA:"),
        (f"a={INPUT}, a={INPUT}", "a=:AA==:"),
        (f"a={INPUT}", "a=:AA==:, a=:AA==:"),
        (f"a={INPUT}", "a=:AA==:", "", "a=:AB==:"),
        (f"a={INPUT}", "a=:AA==:", f"a={INPUT}"),
        ('a="@method"', "a=:AA==:"),
        ("a=(method)", "a=:AA==:"),
        ("a=(1)", "a=:AA==:"),
        ('a=("@Method")', "a=:AA==:"),
        ('a=("Date")', "a=:AA==:"),
        ('a=("@method" "@method")', "a=:AA==:"),
        ('a=("@query-param";name="x" "@query-param";name="x")', "a=:AA==:"),
        ('a=("@method";created=1', "a=:AA==:"),
        ("a=(" + " ".join(f'"f{number}"' for number in range(65)) + ")", "a=:AA==:"),
    ],
)
def test_malformed_or_told_twice(fields, label):
    with pytest.raises(Refused):
        shown_in(*fields, label=label)


def test_several_signatures_need_a_label_to_choose():
    fields = (f'a={INPUT}, b=("@path");created=2;keyid="k"', "b=:AQ==:, a=:AA==:")
    with pytest.raises(Refused):
        shown_in(*fields)
    shown = shown_in(*fields, label="b")
    assert (shown.time("created"), shown.signature, shown.covered()) == (2, b"\1", {"@path"})


@pytest.mark.parametrize("created", ['"1"', "1.5", "?1", ":AA==:", "x"])
def test_parameters_of_another_kind(created):
    shown = shown_in(f"a=();created={created};keyid=k;nonce=7", "a=:AA==:")
    with pytest.raises(Refused):
        shown.time("created")
    for name in ("keyid", "nonce"):  # a token and a number
        with pytest.raises(Refused):
            shown.text(name)
    assert shown.text("tag") == ""
    assert shown.time("expires") is None


def test_what_holds_what():
    wanted = ["@method", "@authority", "@path", "@query", "date"]

    def left(components):
        return uncovered(shown_in(f"a=({components})", "a=:AA==:"), wanted)

    assert left("") == wanted
    assert left('"@target-uri" "@method" "date"') == []
    assert left('"@request-target" "@method"') == ["@authority", "date"]
    assert left('"@query-param";name="a" "@path"') == ["@method", "@authority", "@query", "date"]
    assert left('"date";bs "@method";req') == wanted


@pytest.mark.parametrize(
    ("parameters", "now", "until"),
    [
        ("created=1000", 1000, 1300),
        ("created=1000", 1299.9, 1300),
        ("created=1000", 970, 1300),
        ("created=1000;expires=1010", 1005, 1010),
        ("created=1000;expires=9999", 1005, 1300),
    ],
)
def test_times(parameters, now, until):
    assert check_times(shown_in(f"a=();{parameters}", "a=:AA==:"), now, 300, 30) == until


@pytest.mark.parametrize(
    ("parameters", "now"),
    [
        ("x", 1000),
        ("expires=2000", 1000),
        ("created=1000", 1300),
        ("created=1000", 969.9),
        ("created=1000;expires=1010", 1010),
        ("created=1000;expires=900", 1000),
        ("created=-1000", 1000),
        ('created=1000;expires="2000"', 1000),
    ],
)
def test_out_of_time(parameters, now):
    with pytest.raises(Refused):
        check_times(shown_in(f"a=();{parameters}", "a=:AA==:"), now, 300, 30)


def digested(*values):
    return make_exchange([(b"content-digest", value.encode()) for value in values])


SHA256 = f"sha-256=:{base64.b64encode(signatures._DIGESTS['sha-256'](rfc9421.BODY).digest()).decode()}:"
WRONG = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"


@pytest.mark.parametrize(
    "values", [[rfc9421.DIGEST], [SHA256], [SHA256, rfc9421.DIGEST], [f"md5=:AAAAAAAAAAAAAAAAAAAAAA==:, {SHA256}"]]
)
def test_digests(values):
    check_digest(digested(*values), rfc9421.BODY)
    with pytest.raises(Refused):
        check_digest(digested(*values), rfc9421.BODY + b" ")


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["md5=:CY9rzUYh03PK3k6DJie09g==:"],
        [WRONG],
        [f"{WRONG}, {rfc9421.DIGEST}"],
        [rfc9421.DIGEST, WRONG],
        [f"{SHA256}, {SHA256}"],
        [f'sha-256="{SHA256[9:-1]}"'],
        [f"sha-256=({SHA256[8:]})"],
        ["sha-256"],
        ["nonsense nonsense"],
    ],
)
def test_digests_that_say_nothing_or_wrong(values):
    with pytest.raises(Refused):
        check_digest(digested(*values), rfc9421.BODY)
