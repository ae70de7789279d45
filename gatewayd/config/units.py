"""Durations, sizes, rates and times as configurations write them: `"30s"`, `"1MiB"`, `"100/m"`, `"2027-01-31"`.

Each type is a number (`float` seconds, `int` bytes, `float` per second), so that nothing behind the
configuration has to know about units; `parse` reads what a person wrote and `str()` gives the shortest text
that reads back the same. Bare numbers count as seconds, bytes and per second.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
"""Seconds in each unit, ascending: a compound such as `1m30s` goes down this list."""
SIZE_UNITS = {
    "B": 1,
    "kB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
    "TB": 1000**4,
    "TiB": 1024**4,
}
"""Bytes in each unit. `KB` is read as `kB`."""

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,24})?"
_TIME = r"(?:ms|s|m|h|d)"
_BYTES = r"(?:B|[kKMGT]B|[KMGT]iB)"
DURATION_PATTERN = rf"^(?:{_NUMBER} ?{_TIME})+$"
SIZE_PATTERN = rf"^{_NUMBER} ?{_BYTES}$"
RATE_PATTERN = rf"^{_NUMBER}(?: ?{_BYTES})?/(?:{_NUMBER} ?)?{_TIME}$"
MOMENT_PATTERN = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2}))?)?$"
)
"""What the JSON Schema says of each; `parse` is stricter where a pattern cannot be."""

_MOST = 10**18
_DURATION_PART = re.compile(rf"({_NUMBER}) ?({_TIME})")
_SIZE = re.compile(rf"({_NUMBER}) ?({_BYTES})")
_RATE = re.compile(rf"({_NUMBER})( ?{_BYTES})?/(?:({_NUMBER}) ?)?({_TIME})")
_BARE = re.compile(_NUMBER)
_MOMENT = re.compile(MOMENT_PATTERN)


class UnitError(ValueError):
    """A value that is no duration, size, rate or time; the message says what is wrong with it."""


class Duration(float):
    """Seconds."""

    ALLOWED: ClassVar[str] = 'a duration such as "100ms", "30s", "1m30s", "2h", "1d", or a number of seconds'

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        """Seconds from `"1m30s"` or a bare number. Raises `UnitError`."""
        return cls(_bounded(_seconds(value) if isinstance(value, str) else _plain(value)))

    def __str__(self) -> str:
        if not self:
            return "0s"
        seconds = Decimal(repr(float(self)))
        texts = [_decimal_text(seconds / scale) + unit for unit, scale in DURATION_UNITS.items()]
        exact = [text for text in texts if re.fullmatch(DURATION_PATTERN, text) and _seconds(text) == float(self)]
        return min(reversed(exact), key=len, default=_decimal_text(seconds) + "s")

    def __repr__(self) -> str:
        return f"Duration('{self}')"


class Size(int):
    """Bytes."""

    ALLOWED: ClassVar[str] = 'a size such as "64KiB", "1MiB", "10MB", or a number of bytes'

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        """Bytes from `"64KiB"` or a bare whole number. Raises `UnitError`."""
        number = _bounded(_bytes(value) if isinstance(value, str) else _plain(value))
        if number != int(number):
            raise UnitError("is no whole number of bytes")
        return cls(int(number))

    def __str__(self) -> str:
        whole = [f"{int(self) // scale}{unit}" for unit, scale in SIZE_UNITS.items() if int(self) % scale == 0]
        return "0B" if not self else min(reversed(whole), key=len)

    def __repr__(self) -> str:
        return f"Size('{self}')"


class Rate(float):
    """So many per second; `amount` and `period` (seconds) keep how it was written, for counting windows."""

    ALLOWED: ClassVar[str] = 'a rate such as "100/m", "240/s", "2KiB/s", "100/10s", or a number per second'

    __slots__ = ("amount", "period")
    amount: float
    period: float

    def __new__(cls, amount: float, period: float = 1.0) -> Self:
        """`amount` per `period` seconds."""
        self = super().__new__(cls, amount / period)
        self.amount = amount
        self.period = period
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[float, float]]:
        return type(self), (self.amount, self.period)

    @classmethod
    def parse(cls, value: object) -> Self:
        """A rate from `"100/m"` or a bare number per second. Raises `UnitError`."""
        if not isinstance(value, str):
            return cls(_bounded(_plain(value)))
        found = _RATE.fullmatch(value)
        if not found:
            raise UnitError(_complaint(value, "a rate"))
        number, bytes_unit, times, unit = found.groups()
        period = float(Decimal(times or "1") * DURATION_UNITS[unit])
        if not period:
            raise UnitError("is no rate: its time is zero")
        return cls(_bytes(number + bytes_unit) if bytes_unit else float(number), period)

    def __str__(self) -> str:
        amount = _decimal_text(Decimal(repr(float(self.amount))))
        period = str(Duration(self.period))
        return f"{amount}/{period[1:] if period[:1] == '1' and period[1:] in DURATION_UNITS else period}"

    def __repr__(self) -> str:
        return f"Rate('{self}')"


class Moment(float):
    """Seconds since the epoch; 0 is none. TOML's own dates and times are taken as well, if they say their zone."""

    ALLOWED: ClassVar[str] = (
        'a time with its zone such as "2027-01-31T12:00:00Z", a date (its first second, UTC), or ""'
    )

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        """Seconds from RFC 3339's date or date-time, or a bare number. Raises `UnitError`."""
        if isinstance(value, str):
            return cls(_from_rfc3339(value) if value else 0)
        if isinstance(value, date):
            return cls(_from_rfc3339(value.isoformat()))
        return cls(_bounded(_plain(value)))

    def __str__(self) -> str:
        if not self:
            return ""
        return datetime.fromtimestamp(self, UTC).isoformat().replace("+00:00", "Z")

    def __repr__(self) -> str:
        return f"Moment('{self}')"


UNITS: tuple[type[Duration], type[Size], type[Rate], type[Moment]] = (Duration, Size, Rate, Moment)


def from_plain(kind: type[Any], value: object) -> object:
    """msgspec's `dec_hook`: a unit type from the text or number that stands for it. Raises `UnitError`."""
    if kind in UNITS:
        return kind.parse(value)
    raise TypeError(f"no way to read a {kind.__name__}")


def to_plain(value: object) -> object:
    """msgspec's `enc_hook`: the text that stands for a value of a unit type. Raises `TypeError`."""
    if isinstance(value, UNITS):
        return str(value)
    raise TypeError(f"no way to write a {type(value).__name__}")


def _seconds(text: str) -> float:
    if not re.fullmatch(DURATION_PATTERN, text):
        raise UnitError(_complaint(text, "a duration"))
    parts = [(Decimal(number), DURATION_UNITS[unit]) for number, unit in _DURATION_PART.findall(text)]
    scales = [scale for _, scale in parts]
    if scales != sorted(set(scales), reverse=True):
        raise UnitError("is no duration: units go down, each once, as in 1h30m")
    return float(sum((number * scale for number, scale in parts), Decimal(0)))


def _from_rfc3339(text: str) -> float:
    if not _MOMENT.fullmatch(text):
        raise UnitError("is a time without its zone" if _MOMENT.fullmatch(f"{text}Z") else "is not a time")
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise UnitError(f"is not a time: {error}") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if not found:
        raise UnitError(_complaint(text, "a size"))
    size = Decimal(found[1]) * SIZE_UNITS[found[2].replace("KB", "kB")]
    if size != int(size):
        raise UnitError("is no whole number of bytes")
    return int(size)


def _complaint(text: str, wanted: str) -> str:
    return f"is no {wanted[2:]}: its unit is missing" if _BARE.fullmatch(text) else f"is not {wanted}"


def _plain(value: object) -> float:
    """A bare TOML number that can stand for an amount."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnitError("is neither a number nor a text")
    if not math.isfinite(value):
        raise UnitError("is not finite")
    if value < 0:
        raise UnitError("is negative")
    return value


def _bounded(value: float) -> float:
    """Beyond this a number has more digits than are read back exactly, and no meaning here."""
    if value >= _MOST:
        raise UnitError("is too large")
    return value


def _decimal_text(number: Decimal) -> str:
    return f"{number.normalize():f}"
