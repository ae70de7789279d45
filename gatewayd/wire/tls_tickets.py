"""Session ticket keys that all workers share, so that a caller resumes its TLS session on whichever worker it meets.

OpenSSL encrypts tickets with keys that each context makes up for itself, and Python's `ssl` has no call to set them.
They are set here on the `SSL_CTX` inside a context, through the very library `ssl` is linked with. That pointer is
the first field behind the object's head in every CPython so far; because nobody promises it, it is used only after
it has proved itself on contexts made for the purpose, and where anything looks odd tickets stay per worker.

The keys come from a secret of the daemon by HKDF (RFC 5869), bound to whatever a resumed session would otherwise
slip by: the listener and its rules for client certificates.
"""

from __future__ import annotations

import functools
import ssl
import sys
from typing import Any

# SSL_CTRL_SET_SESS_CACHE_MODE, SSL_CTRL_GET_TLSEXT_TICKET_KEYS, SSL_CTRL_SET_TLSEXT_TICKET_KEYS
_MODE, _GET_KEYS, _SET_KEYS = 44, 58, 59
_LENGTHS = (80, 48)  # OpenSSL since 1.1.0, before
_NEWEST = (3, 13)


def share(context: ssl.SSLContext, secret: bytes, purpose: bytes) -> bool:
    """Derive `context`'s ticket keys from `secret` and `purpose`; False if they could not be set.

    Also turns the context's own table of sessions off: tickets need none, and callers could fill it.
    """
    library = _library()
    if library is None:
        return False
    pointer = _pointer(context)
    length = library.SSL_CTX_ctrl(pointer, _GET_KEYS, 0, None)
    if length not in _LENGTHS:
        return False
    import ctypes

    keys = ctypes.create_string_buffer(_derive(secret, purpose, length), length)
    back = ctypes.create_string_buffer(length)
    if library.SSL_CTX_ctrl(pointer, _SET_KEYS, length, keys) != 1:
        return False
    if library.SSL_CTX_ctrl(pointer, _GET_KEYS, length, back) != 1 or back.raw != keys.raw:
        return False
    library.SSL_CTX_ctrl(pointer, _MODE, 0, None)
    return True


def _derive(secret: bytes, purpose: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt=None, info=b"gatewayd session tickets\0" + purpose).derive(secret)


@functools.cache
def _library() -> Any:
    """The OpenSSL behind `ssl`, if the pointer to a context's inside proves right; else None."""
    import _ssl
    import ctypes

    file = getattr(_ssl, "__file__", None)
    if sys.implementation.name != "cpython" or sys.version_info[:2] > _NEWEST or file is None:
        return None
    if ssl.SSLContext.__basicsize__ < object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p):
        return None
    try:
        library = ctypes.CDLL(file)
        library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_get_options.argtypes = (ctypes.c_void_p,)
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
    except (OSError, AttributeError):
        return None
    return library if _proved(library) else None


def _pointer(context: ssl.SSLContext) -> int:
    import ctypes

    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0


def _proved(library: Any) -> bool:
    """Whether what lies behind the head of two contexts of different options answers with exactly those options."""
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
    contexts[0].options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    pointers = [_pointer(context) for context in contexts]
    if pointers[0] == pointers[1] or not all(_plausible(pointer) for pointer in pointers):
        return False
    low = 0xFFFFFFFF
    return all(
        library.SSL_CTX_get_options(pointer) & low == context.options & low
        for pointer, context in zip(pointers, contexts, strict=True)
    )


def _plausible(pointer: int) -> bool:
    """Aligned, and in memory this process may read and write."""
    if not pointer or pointer % 8:
        return False
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            span, rights = line.split(None, 2)[:2]
            first, end = (int(part, 16) for part in span.split("-"))
            if first <= pointer < end:
                return rights.startswith("rw")
    return False
