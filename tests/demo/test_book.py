"""The book of business is the same in every process, and its references mean what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gatewayd.demo import book


def test_every_process_tells_the_same_story():
    script = "from gatewayd.demo import book; print(book.policy(123), book.claim(7), book.reading(42, 1))"
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert elsewhere.strip() == f"{book.policy(123)} {book.claim(7)} {book.reading(42, 1)}"


def test_draws_follow_from_the_key_and_differ_along_it():
    assert [book.Draw("a").below(1000) for _ in range(2)] == [book.Draw("a").below(1000)] * 2
    draw = book.Draw("a")
    assert len({draw.below(10**9) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        ("POL-000123", 123),
        ("POL-250000", 250_000),
        ("POL-250001", None),
        ("POL-000000", None),
        ("POL-123", None),
        ("CLM-000123", None),
        ("POL-000123\n", None),
        ("POL-٠٠٠١٢٣", None),
    ],
)
def test_references(reference, number):
    assert book.number_of(reference, "POL", book.POLICIES) == number


def test_money_keeps_both_decimals():
    assert book.money(90_505) == {"amount": "905.05", "currency": "EUR"}
    assert book.money(7)["amount"] == "0.07"


def test_the_instalments_of_a_year_add_up_to_the_premium():
    for number in range(1, 200):
        cents = sum(int(book.invoice(number, month)["total"]["amount"].replace(".", "")) for month in range(1, 13))
        assert cents == book.yearly_premium(number)


def test_a_policy_is_active_for_a_year():
    for number in range(1, 200):
        policy = book.policy(number)
        active = policy["period"]["until"] >= book.TODAY.isoformat()
        assert policy["status"] == ("active" if active else "expired")


def test_records_name_records_that_exist():
    for number in range(1, 200):
        assert book.number_of(book.claim(number)["policy"], "POL", book.POLICIES)
        insured = book.policy(number)["insured"]
        assert "vehicle" not in insured or book.number_of(insured["vehicle"], "VEH", book.VEHICLES)
