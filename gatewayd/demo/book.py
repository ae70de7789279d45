"""The insurer's book of business: every policy, claim and invoice follows from its number alone.

So all processes tell the same story, in every run, with nothing stored. People and figures are invented.
Money is in euros with two decimals, as a string; dates are ISO 8601.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
Record = dict[str, Any]

POLICIES = 250_000
CLAIMS = 40_000
INSTALMENTS = 12
VEHICLES = 5_000
TODAY = date(2026, 11, 2)
"""The day on which the insurer stands still, so that answers never change."""

PRODUCTS = ("motor", "home", "travel", "life", "liability")
_FIRST = (
    "Anna",
    "Jonas",
    "Maria",
    "Lukas",
    "Elif",
    "Pavel",
    "Sofia",
    "Henrik",
    "Noor",
    "Chiara",
    "Tomas",
    "Ines",
)
_LAST = (
    "Berger",
    "Okafor",
    "Lindqvist",
    "Moreau",
    "Novak",
    "Rossi",
    "Yilmaz",
    "Hansen",
    "Costa",
    "Whitfield",
)
_CITIES = (("Graz", "8010"), ("Porto", "4000"), ("Aarhus", "8000"), ("Lyon", "69001"), ("Brno", "60200"))
_CARS = (("Skoda", "Octavia"), ("Fiat", "Panda"), ("Renault", "Megane"), ("Volvo", "V60"), ("Kia", "Niro"))
_COVERS = {
    "motor": ("liability", "collision", "theft", "glass", "roadside"),
    "home": ("fire", "water", "storm", "burglary", "glass"),
    "travel": ("cancellation", "medical", "luggage", "delay"),
    "life": ("death", "disability", "waiver"),
    "liability": ("personal", "property", "legal"),
}
_LOSSES = ("rear-end collision", "hail", "burst pipe", "stolen bicycle", "cracked windscreen", "lost luggage")
_CLAIM_STATES = ("reported", "in review", "assessed", "paid", "closed", "declined")


class Draw:
    """Numbers that follow from a key alone, the same in every process, run and Python."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0

    def below(self, limit: int) -> int:
        """The next number in 0..limit-1."""
        self._count += 1
        digest = hashlib.blake2b(f"{self._key}/{self._count}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % limit

    def one_of(self, choices: Sequence[T]) -> T:
        """The next choice."""
        return choices[self.below(len(choices))]


def number_of(reference: str, prefix: str, last: int) -> int | None:
    """The number in a reference such as `POL-000123`; None if it is no such reference or beyond 1..last."""
    found = re.fullmatch(rf"{prefix}-([0-9]{{6}})", reference)
    number = int(found[1]) if found else 0
    return number if 1 <= number <= last else None


def money(cents: int) -> Record:
    """An amount of `cents`, as the services write it."""
    return {"amount": f"{cents // 100}.{cents % 100:02d}", "currency": "EUR"}


def customer(number: int) -> Record:
    """Customer `number`: name and address."""
    draw = Draw(f"customer/{number}")
    first, last = draw.one_of(_FIRST), draw.one_of(_LAST)
    city, postcode = draw.one_of(_CITIES)
    return {
        "id": f"CUS-{number:06d}",
        "name": f"{first} {last}",
        "email": f"{first}.{last}.{number}@mail.example".lower(),
        "address": {"city": city, "postcode": postcode},
    }


def policy(number: int) -> Record:
    """Policy `number`: who is covered, for what, from when to when and at which premium."""
    draw = Draw(f"policy/{number}")
    product = draw.one_of(PRODUCTS)
    start = TODAY - timedelta(days=draw.below(700))
    return {
        "id": f"POL-{number:06d}",
        "product": product,
        "status": "active" if start + timedelta(days=365) > TODAY else "expired",
        "holder": customer(draw.below(POLICIES // 2) + 1),
        "period": {"from": start.isoformat(), "until": (start + timedelta(days=364)).isoformat()},
        "premium": money(yearly_premium(number)) | {"schedule": draw.one_of(("monthly", "yearly"))},
        "deductible": money(draw.one_of((0, 15_000, 30_000, 50_000))),
        "insured": _insured(product, draw),
        "covers": [*_COVERS[product][: 2 + draw.below(len(_COVERS[product]) - 1)]],
        "agent": f"AGT-{draw.below(400) + 1:03d}",
    }


def yearly_premium(number: int) -> int:
    """What policy `number` costs a year, in cents; a multiple of twelve."""
    return (18_000 + Draw(f"premium/{number}").below(120_000)) // 12 * 12


def _insured(product: str, draw: Draw) -> Record:
    if product == "motor":
        return vehicle(draw.below(VEHICLES) + 1)
    city, postcode = draw.one_of(_CITIES)
    return {"place": f"{postcode} {city}", "sum": money((50 + draw.below(450)) * 100_000)}


def vehicle(number: int) -> Record:
    """Vehicle `number`: make, model and plate."""
    draw = Draw(f"vehicle/{number}")
    make, model = draw.one_of(_CARS)
    plate = f"{draw.one_of(('G', 'W', 'KL', 'PO'))}-{draw.below(90_000) + 10_000}"
    return {
        "vehicle": f"VEH-{number:06d}",
        "make": make,
        "model": model,
        "plate": plate,
        "built": 2010 + draw.below(16),
    }


def claim(number: int) -> Record:
    """Claim `number`: on which policy, what happened, and how far it got."""
    draw = Draw(f"claim/{number}")
    happened = TODAY - timedelta(days=3 + draw.below(400))
    estimate = 8_000 + draw.below(900_000)
    state = draw.one_of(_CLAIM_STATES)
    return {
        "id": f"CLM-{number:06d}",
        "policy": f"POL-{draw.below(POLICIES) + 1:06d}",
        "loss": draw.one_of(_LOSSES),
        "happened": happened.isoformat(),
        "reported": (happened + timedelta(days=draw.below(3))).isoformat(),
        "status": state,
        "estimate": money(estimate),
        "paid": money(estimate if state in ("paid", "closed") else 0),
        "handler": customer(draw.below(50) + 1)["name"],
    }


def invoice(number: int, instalment: int) -> Record:
    """Invoice for month `instalment` (1..12) of policy `number`."""
    due = date(2026, instalment, 1)
    return {
        "id": f"INV-{number:06d}-{instalment:02d}",
        "policy": f"POL-{number:06d}",
        "due": due.isoformat(),
        "total": money(yearly_premium(number) // INSTALMENTS),
        "status": "paid" if due < TODAY else "open",
    }


def reading(vehicle_number: int, sequence: int) -> Record:
    """Telematics reading `sequence` of a vehicle: position (WGS 84 degrees), speed (km/h), braking (g)."""
    draw = Draw(f"reading/{vehicle_number}/{sequence}")
    return {
        "vehicle": f"VEH-{vehicle_number:06d}",
        "sequence": sequence,
        "position": [round(47.07 + sequence * 0.0004, 4), round(15.44 + (vehicle_number % 100) * 0.001, 4)],
        "speed": 30 + draw.below(60),
        "braking": draw.below(45) / 100,
    }
