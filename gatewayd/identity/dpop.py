"""Proofs that who shows a token holds the key it was issued to (DPoP, RFC 9449): stolen, the token alone is of no use.

A proof is a token of its own in the field `DPoP`, signed for this one request: method, URL, time, an identifier that
may be used once, and the digest of the access token. Its header brings the key, which counts only because the access
token names its thumbprint (`cnf.jkt`). What is cheap to find wrong is looked at first; the key is not even read before
its thumbprint has been found right, so nobody can have us compute with a key that no issuer has seen.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gatewayd.config.model import Dpop
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import BuildContext, Reply
from gatewayd.core.problem import problem
from gatewayd.errors import RequestError
from gatewayd.identity.bound import confirmation
from gatewayd.identity.jose import LIMIT, Refused, decode, encode, header_of, members
from gatewayd.identity.jwk import PUBLIC_MEMBERS, Check, key_of
from gatewayd.identity.replay import Replays
from gatewayd.identity.require import challenge
from gatewayd.identity.tokens import date
from gatewayd.rfc.host import check_host
from gatewayd.rfc.path import PathRules, normalise

FIELD = b"dpop"
NONCE_PERIOD = 300
"""Seconds for which a nonce is the current one; it is taken for as long again."""
LONGEST_IDENTIFIER = 256
KEYS = 4096
"""Keys remembered, per worker and policy."""
_LONGEST_REMEMBERED = 2048
_VISIBLE = re.compile(r"[!-~]+")
_PORTS = {b"http": b":80", b"https": b":443"}

FULL = problem(503, "proofs_full", "no more proofs can be taken now", ((b"retry-after", b"5"),))


class _Signer(NamedTuple):
    """The key in a proof's header."""

    thumbprint: str
    check: Check


class Proofs:
    """Looks at proofs. Refusals are tokens for logs, or replies where the caller has to be told what to do."""

    def __init__(self, config: Dpop, replays: Replays, context: BuildContext) -> None:
        document = context.document
        self._config = config
        self._algorithms = frozenset(config.algorithms)
        self._age, self._leeway = float(config.max_age), float(config.leeway)
        self._replays = replays
        self._wall = context.clock.wall
        paths = document.gateway.paths
        self._paths = PathRules(paths.encoded_slash, paths.semicolon, paths.empty_segments)
        self._realm = document.identity.realm
        # With a pepper, machines that share it take each other's nonces.
        self._secret = document.identity.pepper.encode() or replays.secret
        self._nonces = (-1, "", "")
        self._signers: dict[bytes, _Signer] = {}

    def __repr__(self) -> str:
        return f"<Proofs {' '.join(self._config.algorithms)}>"

    def check(self, exchange: Exchange, token: bytes, claims: Mapping[str, Any]) -> str | Reply:
        """Whether `exchange` proves that its caller holds the key that `token`, which has these `claims`, is bound to.

        "" if so, and the proof counts as used then.
        """
        thumbprint = confirmation(claims, "jkt")
        if not thumbprint:
            return "token_not_bound"
        found = [value for name, value in exchange.headers if name == FIELD]
        if len(found) != 1:
            return "dpop_repeated" if found else "dpop_missing"
        try:
            return self._judge(exchange, token, found[0], thumbprint)
        except Refused as error:
            return f"dpop_{error.reason}"

    def _judge(self, exchange: Exchange, token: bytes, proof: bytes, thumbprint: str) -> str | Reply:
        """RFC 9449 §4.3, in another order. Raises `Refused`."""
        if len(proof) > LIMIT:
            raise Refused("too_large")
        content, _, signature = proof.rpartition(b".")
        head, _, payload = content.partition(b".")  # one dot more is no base64
        signer = self._signer(head, thumbprint)
        stated = members(decode(payload))
        now = self._wall()
        issued = date(stated, "iat", 0.0)
        until = issued + self._age + self._leeway  # from then on it is too old, and need not be remembered
        if not now < until or issued > now + self._leeway:
            return "dpop_time"
        if stated.get("htm") != exchange.method.decode("latin-1"):
            return "dpop_method"
        if not self._is_for(exchange, stated.get("htu")):
            return "dpop_url"
        if stated.get("ath") != encode(sha256(token).digest()).decode():
            return "dpop_token"
        identifier = stated.get("jti")
        if not isinstance(identifier, str) or not 0 < len(identifier) <= LONGEST_IDENTIFIER:
            return "dpop_identifier"
        if self._config.nonces and stated.get("nonce") not in self.nonces():
            return self._wants_nonce()
        if not signer.check(decode(signature), content):
            return "dpop_signature"
        verdict = self._replays.first(thumbprint.encode(), identifier.encode(errors="surrogatepass"), until, now)
        return FULL if verdict == "full" else verdict and "dpop_replayed"

    def _signer(self, head: bytes, thumbprint: str) -> _Signer:
        known = self._signers.get(head)
        if known is None:
            known = self._read(head, thumbprint)
            if len(head) <= _LONGEST_REMEMBERED:
                if len(self._signers) >= KEYS:
                    del self._signers[next(iter(self._signers))]
                self._signers[head] = known
        elif known.thumbprint != thumbprint:
            raise Refused("key")
        return known

    def _read(self, head: bytes, thumbprint: str) -> _Signer:
        """The key in a proof's header, if it is the one of that thumbprint."""
        fields = members(decode(head))
        header = header_of(fields)
        if header.type != "dpop+jwt":
            raise Refused("type")
        if header.algorithm not in self._algorithms:
            raise Refused("algorithm")
        jwk = fields.get("jwk")
        if not isinstance(jwk, dict) or thumbprint_of(jwk) != thumbprint:
            raise Refused("key")
        check = key_of(jwk).checks.get(header.algorithm)
        if check is None:
            raise Refused("algorithm")
        return _Signer(thumbprint, check)

    # -- the URL ------------------------------------------------------------------------------------------------

    def _is_for(self, exchange: Exchange, url: object) -> bool:
        """Whether `url` (`htu`) is the request's as its caller knows it, query and fragment apart."""
        if not isinstance(url, str) or not _VISIBLE.fullmatch(url):  # `urlsplit` drops white space
            return False
        scheme, host = exchange.scheme, _host(exchange)
        if not host:
            return False
        if url.encode() == b"%b://%b%b" % (scheme, host, exchange.path):
            return True
        try:
            return self._spelled(url) == (scheme, host.removesuffix(_PORTS.get(scheme, b"")), exchange.path)
        except (ValueError, RequestError):
            return False

    def _spelled(self, url: str) -> tuple[bytes, bytes, bytes]:
        """Scheme, host and path of `url` in their one spelling (RFC 3986 §6.2), without the scheme's own port."""
        parts = urlsplit(url)
        scheme = parts.scheme.encode()
        host = check_host(parts.netloc.encode()).removesuffix(_PORTS.get(scheme, b""))
        return scheme, host, normalise(parts.path.encode() or b"/", self._paths)

    # -- nonces (RFC 9449 §8) -----------------------------------------------------------------------------------

    def nonces(self) -> tuple[str, str]:
        """The current nonce and the one before. They are the same for all callers and workers."""
        period = int(self._wall() // NONCE_PERIOD)
        if self._nonces[0] != period:
            self._nonces = (period, self._nonce(period), self._nonce(period - 1))
        return self._nonces[1:]

    def _nonce(self, period: int) -> str:
        return encode(hmac.digest(self._secret, b"dpop nonce %d" % period, "sha256")[:18]).decode()

    def _wants_nonce(self) -> Reply:
        wanted = challenge("DPoP", self._realm, error="use_dpop_nonce")
        fields = ((b"www-authenticate", wanted), (b"dpop-nonce", self.nonces()[0].encode()))
        return problem(401, "dpop_nonce_required", "the proof has to hold the nonce of DPoP-Nonce", fields)


def proofs(context: BuildContext) -> Proofs:
    """What looks at proofs as `[identity.dpop]` says. One table of used ones serves all policies of all workers."""
    config = context.document.identity.dpop
    replays = Replays(context.arena, "dpop", config.proofs, context.worker, context.workers)
    return Proofs(config, replays, context)


def thumbprint_of(jwk: Mapping[str, Any]) -> str:
    """The thumbprint of a public key (RFC 7638). Raises `Refused` if there is none, or the key shows its private part.

    Of a shared secret there is none: it is no key to prove anything by.
    """
    kind = jwk.get("kty")
    names = PUBLIC_MEMBERS.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise Refused("key")
    shown = {name: jwk.get(name) for name in names}
    if not all(isinstance(value, str) for value in shown.values()):
        raise Refused("key")
    text = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return encode(sha256(text.encode(errors="surrogatepass")).digest()).decode()


def _host(exchange: Exchange) -> bytes:
    """The host that the caller asked: a trusted proxy may have asked us by another name, and says so."""
    if not exchange.peer_trusted:
        return exchange.host
    _, found, rest = exchange.forwarding.partition(b"x-forwarded-host: ")
    return rest.partition(b"\r\n")[0] if found else exchange.host
