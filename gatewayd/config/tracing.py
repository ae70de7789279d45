"""What may be said of where spans go."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from gatewayd.config.units import Duration
from gatewayd.config.values import FieldName, FieldValue, File, Section, Span

SpanBatch = Annotated[int, Meta(ge=1, le=10_000)]


class Tracing(Section, frozen=True):
    """Where spans of sampled calls go: OTLP/HTTP, made of the call records. docs/tracing.md"""

    url: str = ""  # of an OpenTelemetry collector, such as http://127.0.0.1:4318; spans go to <url>/v1/traces
    headers: dict[FieldName, FieldValue] = field(default_factory=dict)  # sent with them, such as Authorization
    ca: File = ""  # PEM file of authorities; "": the system's
    timeout: Span = Duration(10)  # for a whole request
    interval: Span = Duration(5)  # how often it is looked for new calls
    batch: SpanBatch = 512  # calls in a request, at most; each is one span or two
    max_age: Span = Duration(3600)  # calls that could not be sent for so long are left out, and counted
    service_name: str = ""  # service.name; "": gateway.name
    attributes: dict[str, str] = field(default_factory=dict)  # more attributes of the resource

    def __repr__(self) -> str:
        """Without options: some of them are secret."""
        return "<Tracing>"
