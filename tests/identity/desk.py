"""One worker that looks at proofs of possession."""

from __future__ import annotations

from gatewayd.config.model import Document, Dpop, Gateway, Identity, Paths
from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.identity import dpop
from tests.support.exchanges import make_exchange
from tests.support.proofs import TOKEN, thumbprint
from tests.support.tokens import key_for

KEY = key_for("ES256")


class Desk:
    """One worker that looks at proofs, with a table of its own unless `arena` is given."""

    def __init__(self, arena=None, worker=0, pepper="", paths=None, **options):
        options.setdefault("proofs", 4096)
        identity = Identity(pepper=pepper, dpop=Dpop(**options))
        document = Document(identity=identity, gateway=Gateway(paths=paths or Paths()))
        self.clock = FakeClock()
        context = BuildContext("t", clock=self.clock, document=document, arena=arena, worker=worker, workers=8)
        self.proofs = dpop.proofs(context)

    def see(self, *shown, token=TOKEN, bound=KEY, **exchange):
        """What comes of an exchange with these proofs."""
        claims = {"cnf": {"jkt": bound if isinstance(bound, str) else thumbprint(bound)}}
        headers = [(b"dpop", each) for each in shown]
        return self.proofs.check(make_exchange(headers, **exchange), token, claims)
