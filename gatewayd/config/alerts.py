"""What is told when traffic is not as it usually is: the table `[alerts]`. docs/anomalies.md"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from gatewayd.config.units import Duration, Size
from gatewayd.config.values import Bytes, Name, Positive, Section, Share, Span

Times = Annotated[float, Meta(gt=1, le=1000)]
Date = Annotated[
    str,
    Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$", extra={"allowed": 'a date, "2026-12-25"'}),
]
Url = Annotated[
    str, Meta(pattern=r"^https?://[!-~]{1,2000}$", extra={"allowed": "an http:// or https:// URL without spaces"})
]
Secret = Annotated[
    str,
    Meta(
        pattern=r"^whsec_([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        extra={"allowed": '"whsec_" and 24 to 64 bytes as base64, as Standard Webhooks has it'},
    ),
]


class Seasonal(Section, frozen=True):
    """Rate, errors, latency and bytes of an hour against the same hour of past weeks, by consumer and by route."""

    enabled: bool = True  # whether it looks
    score: Annotated[float, Meta(ge=2, le=100)] = 5.5  # robust deviations from the median that are too many
    min_calls: Positive = 50  # calls an hour that are missing or too many, at least; fewer are no news
    min_errors: Positive = 20  # errors an hour beyond the usual, at least
    min_bytes: Bytes = Size(1024 * 1024)  # bytes an hour beyond the usual, at least
    slower: Times = 1.4  # latency (95th percentile) by which factor, at least


class Enumeration(Section, frozen=True):
    """Many different path values in a minute, by consumer, credential or address on one operation."""

    enabled: bool = True  # whether it looks
    distinct: Positive = 40  # values a minute, at least
    times: Times = 3.0  # … and so many times the most it had in past weeks, but for its worst day


class Sharing(Section, frozen=True):
    """One credential from many networks or programs within ten minutes."""

    enabled: bool = True  # whether it looks
    networks: Positive = 5  # networks (/24, /48), at least …
    agents: Positive = 6  # … or different User-Agents
    times: Times = 2.0  # … and so many times the most it had in past weeks, but for its worst day


class OffHours(Section, frozen=True):
    """A consumer with regular hours, at an hour of the week in which it was never there."""

    enabled: bool = True  # whether it looks
    min_calls: Positive = 10  # calls in that hour, at least


class Bursts(Section, frozen=True):
    """Many errors within five minutes: 5xx, 4xx, and refused credentials (401, 403), by consumer and by route."""

    enabled: bool = True  # whether it looks
    errors: Positive = 20  # errors in five minutes, at least
    failed: Share = 0.1  # share of calls that fail (5xx), at least
    refused: Share = 0.3  # share of calls that are answered 4xx, or 401 and 403, at least
    times: Times = 4.0  # … and so many times the odds of its worst hours in the past week


class QuotaBurn(Section, frozen=True):
    """A quota that, as things go, is used up well before its period ends; and one that is."""

    enabled: bool = True  # whether it looks
    used: Share = 0.25  # share of the quota that must be used before anything is said
    before: Share = 0.85  # used up before this share of the period is over


class Webhook(Section, frozen=True):
    """Who is told of alerts: signed POSTs as Standard Webhooks has them."""

    url: Url  # where to; redirections are not followed
    secret: Secret  # what signs them, such as "${file:/etc/gatewayd/whsec}"
    timeout: Span = Duration(10)  # for each attempt
    attempts: Positive = 10  # over a day and a half; then a message is given up

    def __repr__(self) -> str:
        """Without its URL, which may hold a token, and its secret."""
        return "<Webhook>"


class Alerts(Section, frozen=True):
    """What is told when traffic is not as it usually is; needs the collected call records. docs/anomalies.md"""

    enabled: bool = True  # whether anything is looked for
    interval: Span = Duration(60)  # between two looks
    time_zone: str = "UTC"  # whose hours and weekdays people keep, such as "Europe/Berlin"
    holidays: list[Date] = field(default_factory=list)  # days that are like Sundays
    weeks: Annotated[int, Meta(ge=2, le=26)] = 8  # how far back the usual is looked for
    min_weeks: Annotated[int, Meta(ge=2, le=26)] = 3  # of these, before an hour of the week counts as known
    cooldown: Duration = Duration(3600)  # what comes back within this is the same alert again
    max_open: Positive = 200  # alerts open at once; more are counted, not kept
    keep: Span = Duration(90 * 86_400)  # how long alerts are remembered that are over
    mute_consumers: list[str] = field(default_factory=list)  # never an alert's subject
    mute_routes: list[str] = field(default_factory=list)  # never an alert's subject
    seasonal: Seasonal = Seasonal()  # hours against the same hour of past weeks
    enumeration: Enumeration = Enumeration()  # many different path values
    sharing: Sharing = Sharing()  # one credential from many places
    off_hours: OffHours = OffHours()  # use at unusual hours
    bursts: Bursts = Bursts()  # many errors within minutes
    quota_burn: QuotaBurn = QuotaBurn()  # quotas that will not last
    webhooks: dict[Name, Webhook] = field(default_factory=dict)  # who is told
