"""Spans of a call: what OpenTelemetry's own schema reads in them, and what they say."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

from gatewayd import __version__
from gatewayd.collect import spans

from .sampled_calls import CALL, WALL

AT = int(WALL * 1e6)
Read = tuple[dict[str, Any], dict[str, Any]]


def read_by_the_schema(body: bytes) -> ExportTraceServiceRequest:
    """As a collector reads it: no field may be unknown, and no identifier anything but hexadecimal digits."""
    document = orjson.loads(body)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:  # protobuf's own mapping of JSON has them in base64, OTLP's in hexadecimal
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=False)


def said(attributes: Any) -> dict[str, Any]:
    """Attributes as plain data."""
    plain: dict[str, Any] = {}
    for each in attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        plain[each.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    assert len(plain) == len(attributes)
    return plain


def told(**columns: Any) -> list[Span]:
    """The spans of a call, read by the schema."""
    names = [name for name in spans.Row._fields if name != "at"]
    row = spans.Row(at=AT, **{name: (CALL | columns)[name] for name in names})
    body, count = spans.request([], [row])
    found = list(read_by_the_schema(body).resource_spans[0].scope_spans[0].spans)
    assert len(found) == count
    return found


def test_a_call_and_asking_its_target():
    call, asking = told()
    assert call.trace_id == asking.trace_id == bytes.fromhex(CALL["trace_id"])
    assert (call.span_id, call.parent_span_id) == (bytes.fromhex(CALL["span_id"]), bytes.fromhex(CALL["parent_id"]))
    assert (asking.span_id, asking.parent_span_id) == (bytes.fromhex("00f067aa0ba902b6"), call.span_id)
    assert (call.kind, asking.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert (call.name, asking.name) == ("GET /v1/quotes/{id}", "GET")
    assert call.start_time_unix_nano == asking.start_time_unix_nano == AT * 1000
    assert call.end_time_unix_nano - call.start_time_unix_nano == 1_500_000
    assert asking.end_time_unix_nano - asking.start_time_unix_nano == 1_200_000
    assert (
        call.flags == 1 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
    )
    assert asking.flags == 1 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    assert call.status.code == asking.status.code == Status.STATUS_CODE_UNSET


def test_what_is_said_of_a_call():
    call, _ = told(verdicts="partner-ips:observed cache:miss")
    assert said(call.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "https",
        "http.route": "/v1/quotes/{id}",
        "http.response.status_code": 200,
        "http.request.body.size": 0,
        "http.response.body.size": 541,
        "server.address": "api.example",
        "server.port": 8443,
        "client.address": "203.0.113.7",
        "network.peer.address": "203.0.113.7",
        "network.protocol.name": "http",
        "user_agent.original": "curl/8.5.0",
        "tls.protocol.name": "tls",
        "tls.protocol.version": "1.3",
        "gatewayd.request_id": "1f0c",
        "gatewayd.tenant": "north",
        "gatewayd.consumer": "portal",
        "gatewayd.credential": "k1",
        "gatewayd.auth": "api_key",
        "gatewayd.plan": "gold",
        "gatewayd.route": "quotes",
        "gatewayd.service": "quotes",
        "gatewayd.listener": "https",
        "gatewayd.verdicts": ["partner-ips:observed", "cache:miss"],
        "gatewayd.attempts": 1,
        "gatewayd.generation": 3,
    }


def test_what_is_said_of_asking_its_target():
    _, asking = told(attempts=3)
    assert said(asking.attributes) == {
        "http.request.method": "GET",
        "url.template": "/v1/quotes/{id}",
        "http.response.status_code": 200,
        "http.request.resend_count": 2,
        "server.address": "10.0.0.7",
        "server.port": 9000,
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "gatewayd.service": "quotes",
    }


def test_a_refusal_is_one_span_and_no_error_of_ours():
    (call,) = told(attempts=0, upstream_us=0, target="", status=429, code="rate_limited", parent_id="")
    facts = said(call.attributes)
    assert (facts["http.response.status_code"], facts["gatewayd.code"]) == (429, "rate_limited")
    assert "error.type" not in facts
    assert call.status.code == Status.STATUS_CODE_UNSET
    assert call.parent_span_id == b""
    assert call.flags == 1 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK


def test_a_call_without_a_route_is_named_by_its_method():
    (call,) = told(attempts=0, operation="", route="", service="", status=404, code="route_not_found")
    assert call.name == "GET"
    assert "http.route" not in said(call.attributes)


@pytest.mark.parametrize(
    ("columns", "of_call", "of_asking", "status_of_asking"),
    [
        ({"status": 500}, "500", "500", 500),
        ({"status": 404}, "", "404", 404),
        ({"status": 504, "code": "first_byte_timeout", "reason": "first_byte_timeout", "upstream_us": 0},
         "first_byte_timeout", "first_byte_timeout", None),
        ({"status": 200, "reason": "closed_in_reply"}, "", "closed_in_reply", 200),
        ({"status": 499, "reason": "caller_gone", "upstream_us": 0}, "", "", None),
        ({"status": 500, "code": "policy_failed"}, "policy_failed", "", None),
    ],
)  # fmt: skip
def test_errors(columns, of_call, of_asking, status_of_asking):
    call, asking = told(**columns)
    assert said(call.attributes).get("error.type", "") == of_call
    assert said(asking.attributes).get("error.type", "") == of_asking
    assert said(asking.attributes).get("http.response.status_code") == status_of_asking
    assert [span.status.code == Status.STATUS_CODE_ERROR for span in (call, asking)] == [bool(of_call), bool(of_asking)]


def test_without_a_reply_asking_lasted_to_the_end():
    _, asking = told(status=504, reason="first_byte_timeout", upstream_us=0)
    assert asking.end_time_unix_nano - asking.start_time_unix_nano == 1_500_000


def test_what_was_erased_or_never_known_is_not_said():
    call, _ = told(client=None, peer=None, agent=None, consumer="", tls="", host="")
    names = said(call.attributes).keys()
    assert not names & {"client.address", "network.peer.address", "user_agent.original", "gatewayd.consumer"}
    assert not [name for name in names if name.startswith(("tls.", "server."))]


def test_the_connections_own_address_where_proxies_are_looked_through():
    call, _ = told(peer="198.51.100.1")
    assert said(call.attributes)["network.peer.address"] == "198.51.100.1"


def test_odd_methods_do_not_become_names():
    call, asking = told(method="PROPFIND")
    assert (call.name, asking.name) == ("HTTP /v1/quotes/{id}", "HTTP")
    facts = said(call.attributes)
    assert (facts["http.request.method"], facts["http.request.method_original"]) == ("_OTHER", "PROPFIND")


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        ("api.example", "https", "api.example", 443),
        ("api.example", "http", "api.example", 80),
        ("[2001:db8::1]:8080", "http", "2001:db8::1", 8080),
        ("[2001:db8::1]", "http", "2001:db8::1", 80),
    ],
)
def test_hosts(host, scheme, address, port):
    facts = said(told(host=host, scheme=scheme)[0].attributes)
    assert (facts["server.address"], facts["server.port"]) == (address, port)


def test_a_target_behind_a_unix_socket():
    facts = said(told(target="unix:/run/app.sock")[1].attributes)
    assert (facts["server.address"], facts["network.transport"]) == ("/run/app.sock", "unix")
    assert "server.port" not in facts


def test_the_resource_and_the_scope():
    body, count = spans.request(spans.attributes({"service.name": "edge", "empty": ""}), [])
    (resource,) = read_by_the_schema(body).resource_spans
    assert count == 0
    assert said(resource.resource.attributes) == {"service.name": "edge"}
    assert (resource.scope_spans[0].scope.name, resource.scope_spans[0].scope.version) == ("gatewayd", __version__)


def test_numbers_of_64_bits_are_texts_and_kinds_are_numbers():
    row = spans.Row(at=AT, **{name: CALL[name] for name in spans.Row._fields if name != "at"})
    span = spans.spans_of(row)[0]
    assert (span["kind"], span["startTimeUnixNano"]) == (2, str(AT * 1000))
    assert {"key": "http.response.status_code", "value": {"intValue": "200"}} in span["attributes"]
