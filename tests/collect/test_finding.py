"""What detectors say, and how it reads."""

from __future__ import annotations

import pytest

from gatewayd.collect.finding import Finding, Subject, said, size


@pytest.mark.parametrize(
    ("subject", "text", "title"),
    [
        (Subject("consumer", "acme"), "consumer:acme", "consumer acme"),
        (Subject("consumer", "acme", "/v1/claims/{id}"), "consumer:acme /v1/claims/{id}", "consumer acme"),
        (Subject("consumer", ""), "consumer:", "callers without a consumer"),
        (Subject("route", ""), "route:", "calls that no route matches"),
        (Subject("gateway", ""), "gateway:", "all traffic"),
        (Subject("address", ""), "address:", "an unknown address"),
    ],
)
def test_subjects(subject, text, title):
    assert (str(subject), subject.title) == (text, title)


@pytest.mark.parametrize(("score", "severity"), [(1.0, "warning"), (1.99, "warning"), (2.0, "critical")])
def test_severity_follows_the_score(score, severity):
    assert Finding("rate", Subject("route", "r"), 0, 60, score, 0, 0, "").severity == severity


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (7, "7"), (0.12345, "0.123"), (1234.5, "1,234"), (12.34, "12.3")]
)
def test_numbers_as_people_read_them(number, text):
    assert said(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(12, "12 bytes"), (2048, "2 KiB"), (1536 * 1024, "1.5 MiB"), (5 << 30, "5 GiB"), (3 << 40, "3 TiB")],
)
def test_sizes_as_people_read_them(number, text):
    assert size(number) == text
