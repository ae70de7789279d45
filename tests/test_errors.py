from __future__ import annotations

import pytest

from gatewayd.errors import ConfigError, Fault, GatewaydError, RequestError, UpstreamError


def test_a_fault_says_where_what_and_what_instead() -> None:
    fault = Fault(
        "routes.quotes.service",
        "no such service",
        found='"quots"',
        allowed='"quotes"',
        hint='did you mean "quotes"?',
        file="conf.toml",
        line=7,
    )
    text = str(fault)
    assert text.startswith("conf.toml:7: routes.quotes.service: no such service")
    for part in ('"quots"', '"quotes"', "did you mean"):
        assert part in text


def test_a_fault_without_a_place_says_so_by_leaving_it_out() -> None:
    assert str(Fault("gateway.workers", "too many")) == "gateway.workers: too many"


def test_a_configuration_error_holds_all_faults_and_shows_each_on_a_line() -> None:
    error = ConfigError([Fault("a", "wrong"), Fault("b", "wrong, too")])
    assert [fault.path for fault in error.faults] == ["a", "b"]
    assert str(error).splitlines() == ["a: wrong", "b: wrong, too"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RequestError(400, "host_missing", "no Host"), "400 host_missing: no Host"),
        (UpstreamError(502, "connect_failed"), "502 connect_failed"),
        (UpstreamError(502, "connect_failed", detail="10.0.0.1:9"), "502 connect_failed: 10.0.0.1:9"),
    ],
)
def test_errors_of_exchanges_read_as_status_and_token(error: GatewaydError, text: str) -> None:
    assert str(error) == text


def test_what_failed_is_not_tried_again_unless_that_is_said_to_be_safe() -> None:
    assert UpstreamError(502, "closed_in_reply").retry == "never"
