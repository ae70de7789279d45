from __future__ import annotations

from gatewayd.rfc.headers import is_token
from gatewayd.rfc.methods import METHODS


def test_methods_are_tokens_and_the_everyday_ones_are_there():
    assert all(is_token(method) and method.isupper() for method in METHODS)
    assert {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT"} <= METHODS
