"""How targets are told who calls: which header names may be used for it, and how texts stand in them."""

from __future__ import annotations

from urllib.parse import quote

from gatewayd.errors import Fault
from gatewayd.rfc.headers import IDENTITY_PREFIXES, is_token, is_withheld

_PLAIN = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"
_PLAIN_IN_LISTS = _PLAIN.replace(",", "")


def text(value: str) -> bytes:
    """`value` in visible ASCII: what else there is in it, and `%`, stands as percent escapes of its UTF-8.

    So no value can end its line, and every value can be told from every other (RFC 3986 §2.1).
    """
    found = quote(value, safe=_PLAIN, errors="surrogatepass")
    return (_ends(found) if found != found.strip() else found).encode()


def listed(values: list[str]) -> bytes:
    """`values` joined by commas, each written as `text` does, and its own commas as `%2C`."""
    escaped = [quote(value, safe=_PLAIN_IN_LISTS, errors="surrogatepass") for value in values]
    return ",".join(_ends(value) for value in escaped).encode()


def _ends(value: str) -> str:
    """White space around a value would not arrive (RFC 9110 §5.5)."""
    inner = value.strip(" ")
    before = len(value) - len(value.lstrip(" ")) if inner else 0
    return "%20" * before + inner + "%20" * (len(value) - len(inner) - before)


def is_reserved(name: bytes) -> bool:
    """Whether no request of a caller gets through with a field of this lower-case name, on any route."""
    return name.startswith(IDENTITY_PREFIXES)


def name_faults(path: str, name: str) -> list[Fault]:
    """What is wrong with using `name`: it is none, targets could read it as another (`_`), or it says other things."""
    lower = name.lower().encode()
    if is_token(lower) and b"_" not in lower and (is_reserved(lower) or not is_withheld(lower)):
        return []
    return [Fault(path, "not a field that can say who calls", name, allowed="a header name, such as X-Consumer-Id")]
