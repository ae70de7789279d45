"""Every error gatewayd raises on purpose. Errors carry data; the text is made where it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Retry = Literal["never", "always", "idempotent"]

OUT_OF_DESCRIPTORS = "out_of_descriptors"
"""The one `UpstreamError.reason` that says nothing about a target: this process cannot open another connection."""


class GatewaydError(Exception):
    """Root of the errors below."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration.

    `path` is the dotted key (`routes.quotes.service`), `found` what stands there, `allowed` what could,
    `hint` a did-you-mean or the next step; `file` and `line` (from 1) are 0/"" where no text stands behind it
    (`file` is then "environment" for an override).
    """

    path: str
    message: str
    found: str = ""
    allowed: str = ""
    hint: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = f"{place}: " if place else ""
        text = f"{where}{self.path}: {self.message}"
        if self.found:
            text += f"; found {self.found}"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.hint:
            text += f" ({self.hint})"
        return text


class ConfigError(GatewaydError):
    """The configuration cannot be used; `faults` holds everything that is wrong, not only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


@dataclass(slots=True)
class RequestError(GatewaydError):
    """A request that is answered with `status` and never forwarded; `code` is the stable problem code.

    `close`: the connection's framing can no longer be trusted, so it is closed behind the answer.
    """

    status: int
    code: str
    detail: str = ""
    close: bool = True

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


@dataclass(slots=True)
class UpstreamError(GatewaydError):
    """An exchange with a target that failed before its reply was complete.

    `status`: what the caller is answered if nothing was sent yet (502, 503, 504). `reason`: a stable token for
    logs and metrics. `retry`: "always" when the request cannot have been processed (nothing was written),
    "idempotent" when it may have been, "never" once reply bytes were seen.
    """

    status: int
    reason: str
    retry: Retry = "never"
    detail: str = field(default="")

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.detail}" if self.detail else f"{self.status} {self.reason}"
