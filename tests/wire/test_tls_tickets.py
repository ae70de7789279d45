"""That the keys are set only where the way to them is proved, and that anything odd is a quiet False."""

from __future__ import annotations

import ctypes
import ssl
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayd.wire import tls_tickets

SECRET = b"s" * 32


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    tls_tickets._library.cache_clear()
    yield
    tls_tickets._library.cache_clear()


def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def keys_of(made: ssl.SSLContext) -> bytes:
    buffer = ctypes.create_string_buffer(80)
    library = tls_tickets._library()
    assert library.SSL_CTX_ctrl(tls_tickets._pointer(made), 58, 80, buffer) == 1
    return buffer.raw


def test_the_same_secret_and_purpose_make_the_same_keys() -> None:
    if tls_tickets._library() is None:
        pytest.skip("this Python's OpenSSL cannot be reached")
    keys = {}
    for secret, purpose in ((SECRET, b"a"), (SECRET, b"b"), (b"t" * 32, b"a")):
        pair = [context(), context()]
        assert keys_of(pair[0]) != keys_of(pair[1])
        assert all(tls_tickets.share(each, secret, purpose) for each in pair)
        assert keys_of(pair[0]) == keys_of(pair[1])
        keys[keys_of(pair[0])] = purpose
    assert len(keys) == 3


def test_no_session_is_kept_in_memory() -> None:
    if tls_tickets._library() is None:
        pytest.skip("this Python's OpenSSL cannot be reached")
    made = context()
    assert tls_tickets.share(made, SECRET, b"a")
    get_mode = 45  # SSL_CTRL_GET_SESS_CACHE_MODE
    assert tls_tickets._library().SSL_CTX_ctrl(tls_tickets._pointer(made), get_mode, 0, None) == 0


class Library:
    """Stands for an OpenSSL that does not keep to what is known of it."""

    def __init__(self, length: int = 80, set_keys: int = 1, get_keys: int = 1, options: int | None = None) -> None:
        self.length, self.set_keys, self.get_keys, self.options = length, set_keys, get_keys, options
        self.calls: list[int] = []

    def SSL_CTX_ctrl(self, pointer: int, what: int, size: int, buffer: Any) -> int:
        self.calls.append(what)
        if what == 58:
            return self.get_keys if buffer is not None else self.length
        return self.set_keys

    def SSL_CTX_get_options(self, pointer: int) -> int:
        return self.options or 0


@pytest.mark.parametrize(
    "library",
    [None, Library(length=16), Library(length=0), Library(set_keys=0), Library(get_keys=0), Library()],
    ids=["none", "odd length", "no length", "not set", "not read back", "other keys read back"],
)
def test_what_looks_odd_is_left_alone(library: Library | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_tickets, "_library", lambda: library)
    monkeypatch.setattr(tls_tickets._library, "cache_clear", lambda: None, raising=False)
    assert not tls_tickets.share(context(), SECRET, b"a")
    assert library is None or 44 not in library.calls


def test_a_pointer_that_answers_with_other_options_is_not_used() -> None:
    assert not tls_tickets._proved(Library(options=0x123))


def test_pointers_into_nowhere_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    good = tls_tickets._pointer(context())
    assert [tls_tickets._plausible(p) for p in (0, 8, good + 1, 2**47 - 8, id(None) | 1)] == [False] * 5
    monkeypatch.setattr(tls_tickets, "_pointer", lambda made: 8)
    called = Library()
    assert not tls_tickets._proved(called)
    assert called.calls == []


@pytest.mark.parametrize(
    "python",
    [
        {"implementation": SimpleNamespace(name="pypy")},
        {"version_info": (3, 99, 0)},
    ],
)
def test_other_pythons_are_left_alone(python: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in python.items():
        monkeypatch.setattr(sys, name, value)
    assert tls_tickets._library() is None


def test_an_ssl_module_without_a_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_ssl", SimpleNamespace())  # type: ignore[arg-type]
    assert tls_tickets._library() is None


def test_an_openssl_whose_symbols_are_hidden_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import _ctypes

    monkeypatch.setitem(sys.modules, "_ssl", SimpleNamespace(__file__=_ctypes.__file__))  # type: ignore[arg-type]
    assert tls_tickets._library() is None
