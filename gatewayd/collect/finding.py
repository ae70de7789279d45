"""What detectors say: a subject does something that it usually does not, and how sure that is."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["warning", "critical"]

CRITICAL = 2.0
"""Findings of this score and more are critical."""
WARM = 0.5
"""Findings below this say nothing; between this and 1 they keep an alert open, but open none."""

CONSUMER, ROUTE, GATEWAY, CREDENTIAL, ADDRESS = "consumer", "route", "gateway", "credential", "address"
"""Kinds of subjects."""
NETWORK = (
    "CASE WHEN contains(client, ':') THEN array_to_string(string_split(client, ':')[1:3], ':') "
    "ELSE regexp_replace(client, '\\.[0-9]+$', '') END"
)
"""SQL for the network of a call: an IPv4 /24, an IPv6 /48."""


class Subject(NamedTuple):
    """Whom a finding is about. As text `consumer:acme`, `credential:acme/key-1`, `gateway:`."""

    kind: str
    name: str
    about: str = ""
    """What of it, where one subject may have several alerts of a detector: an operation, a class of errors, a quota."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" + (f" {self.about}" if self.about else "")

    @property
    def title(self) -> str:
        """The same in a sentence."""
        if self.kind == GATEWAY:
            return "all traffic"
        if not self.name:
            return {CONSUMER: "callers without a consumer", ROUTE: "calls that no route matches"}.get(
                self.kind, f"an unknown {self.kind}"
            )
        return f"{self.kind} {self.name}"


class Contributor(NamedTuple):
    """What makes up a part of a finding's excess."""

    kind: str
    """route, consumer, code, address, credential, network, agent."""
    name: str
    """Addresses, networks and agents as keyed hashes: alerts outlive what may be known of a person."""
    observed: float
    baseline: float
    share: float
    """Of the excess: 0 to 1."""


class Finding(NamedTuple):
    """Something unusual about `subject`, found by `detector` in the `seconds` before `at` (seconds since the epoch)."""

    detector: str
    subject: Subject
    at: int
    seconds: int
    score: float
    """1: just enough for an alert."""
    baseline: float
    observed: float
    text: str
    contributors: tuple[Contributor, ...] = ()

    @property
    def severity(self) -> Severity:
        """By its score."""
        return "critical" if self.score >= CRITICAL else "warning"


def said(number: float) -> str:
    """A number as people read it: three digits that count, and thousands set apart."""
    if number >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.3g}"


def size(number: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{said(number)} {unit}"
        number /= 1024
    return f"{said(number)} TiB"
