"""Where spans go: what of it is a fault, and that it is shown nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.config.check import check
from gatewayd.config.convert import convert_table
from gatewayd.config.model import decode
from gatewayd.config.tracing import Tracing

RIGHT = {"url": "http://127.0.0.1:4318"}


def faults(tracing: dict[str, Any], **sections: Any) -> list[str]:
    """What is wrong with a document that exports spans."""
    raw = {"listeners": {"http": {"address": "127.0.0.1:0"}}, "audit": {"enabled": True}, "tracing": tracing}
    return [str(fault) for fault in check(decode(raw | sections))]


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:4318", "https://otlp.example/tenants/7/", "http://[::1]:4318"])
def test_right_urls(url):
    assert faults({"url": url}) == []


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:4318",
        "grpc://a:4317",
        "http://",
        "http://a:0",
        "http://a:99999",
        "http://name:secret@a",
        "http://a/?b=secret",
    ],
)
def test_wrong_urls_are_refused_and_not_shown(url):
    (fault,) = faults({"url": url})
    assert fault.startswith("tracing.url: this is no URL of an OpenTelemetry collector")
    assert "secret" not in fault


@pytest.mark.parametrize("section", ["audit", "collector", "control"])
def test_spans_need_records_that_are_collected(section):
    (fault,) = faults(RIGHT, **{section: {"enabled": False}})
    assert f"set {section}.enabled = true" in fault
    assert faults({}, **{section: {"enabled": False}}) == []


def test_fields_that_the_exporter_sends_itself():
    (fault,) = faults(RIGHT | {"headers": {"X-Tenant": "a", "Content-type": "b"}})
    assert fault.startswith("tracing.headers.Content-type: the exporter sends this field itself")


def test_a_file_of_authorities_is_looked_at(tmp_path):
    (fault,) = faults(RIGHT | {"ca": str(tmp_path / "none.pem")})
    assert fault.startswith("tracing.ca: ")


@pytest.mark.parametrize(
    "option", [{"batch": 0}, {"batch": 10_001}, {"interval": 0}, {"max_age": 0}, {"headers": {"a b": ""}}]
)
def test_values_out_of_range(option):
    _, found = convert_table(Tracing, option, "tracing")
    assert len(found) == 1


def test_its_options_are_shown_nowhere():
    assert "secret" not in repr(decode({"tracing": {"url": "http://a", "headers": {"A": "secret"}}}).tracing)
