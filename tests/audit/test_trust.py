"""Which keys are believed."""

from __future__ import annotations

import pytest

from gatewayd.audit.frames import HEAD, Frame
from gatewayd.audit.trust import Trust
from tests.support.evidence import somebody

ONE, OTHER = somebody(), somebody()


def signed(signer):
    return Frame(HEAD, b"p" * 32, signer.body(HEAD, b"p" * 32, b"said"), 0, 0)


def test_only_what_a_known_key_signed_is_believed():
    trust = Trust({ONE.id: ONE.public})
    assert trust.signed(ONE.id, signed(ONE))
    assert not trust.signed(ONE.id, signed(OTHER))
    assert not trust.signed(OTHER.id, signed(OTHER))
    assert not trust.signed(ONE.id, signed(ONE)._replace(body=b"short"))
    assert (ONE.id in trust, OTHER.id in trust) == (True, False)


def test_a_key_may_be_introduced():
    trust = Trust({ONE.id: ONE.public})
    trust.introduce(OTHER.public.public_bytes_raw())
    assert trust.signed(OTHER.id, signed(OTHER))
    assert trust.ids == sorted([ONE.id, OTHER.id])
    with pytest.raises(ValueError, match="32"):
        trust.introduce(b"short")
