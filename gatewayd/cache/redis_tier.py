"""A tier of the cache in Redis, shared by all machines with one configuration.

A URI (host, path, query) is a hash there: a field for each stored reply, led by the millisecond until which it is good,
its URL and tags, for purges, and a stamp that says when it was last made invalid. The stamp is read before a target is
asked; a reply is not stored if it is another one by then. Names are digests, so nothing of a request stands in them.

A search takes `redis.timeout` at most. All else is done in turn by one task of the worker, which waits for nothing that
a request wants: of replies offered only so many wait, and are dropped while Redis is out; what was made invalid waits
until Redis has heard of it, and is not searched for before.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any

from cachetools import LRUCache

from gatewayd.cache.entry import Entry, Key
from gatewayd.cache.tier import name_of, variant_of
from gatewayd.core.policy import BuildContext
from gatewayd.core.redis import Call, RedisServer, Script, Unreachable
from gatewayd.core.tasks import spawn

SEARCHES = 8
"""At the same time, per worker; more find nothing."""
OFFERS, OFFERED = 256, 8 * 1024 * 1024
"""Replies, and bytes of them, that may wait to be stored."""
FORGOTTEN = 10_000
"""URIs that may wait to be made invalid; if there are more, everything is."""
VARIANTS, REPLIES = 8, 256
"""Replies that one search finds; that are stored for one URI, before it begins anew."""
STAMPS = 16_384
"""URIs whose stamp is remembered."""
RETRY = 0.2
"""Seconds between two tries to say what was made invalid."""
_STAMPED = 300_000
"""Milliseconds that a stamp stays: no fetch takes longer."""
_PAGE = 200

_FIND = Script("""
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {redis.call('HGET', KEYS[1], 'stamp') or ''}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if #found <= tonumber(ARGV[2]) and string.sub(name, 1, #ARGV[1]) == ARGV[1] then
    local value = redis.call('HGET', KEYS[1], name)
    if tonumber(string.sub(value, 1, 14)) > now then found[#found + 1] = string.sub(value, 15) end
  end
end
return found
""")
_OFFER = Script("""
local field, value, stamp, url, tags = ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6]
local seen = redis.call('HGET', KEYS[1], 'stamp')
if seen and seen ~= stamp then return 0 end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[7]) then
  redis.call('DEL', KEYS[1])
  if seen then redis.call('HSET', KEYS[1], 'stamp', seen) end
end
local t = redis.call('TIME')
local till = string.format('%014.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3])
local known = redis.call('HGET', KEYS[1], 'tags') or '\\n'
for tag in string.gmatch(tags, '[^\\n]+') do
  if not string.find(known, '\\n' .. tag .. '\\n', 1, true) then known = known .. tag .. '\\n' end
end
redis.call('HSET', KEYS[1], field, till .. value, 'url', url, 'tags', known)
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
""")
_FORGET = Script("""
local t = redis.call('TIME')
local kind, value = ARGV[2], ARGV[3]
local count = 0
for _, key in ipairs(KEYS) do
  local hit = kind == ''
  if kind == 'tag' then
    hit = string.find(redis.call('HGET', key, 'tags') or '', '\\n' .. value .. '\\n', 1, true)
  elseif not hit then
    local url = redis.call('HGET', key, 'url')
    local path = url and string.sub(url, string.find(url, '/', 1, true) or 1)
    if url and kind == 'url' then hit = url == value or path == value
    elseif url then hit = string.sub(url, 1, #value) == value or string.sub(path, 1, #value) == value end
  end
  if hit then
    redis.call('DEL', key)
    redis.call('HSET', key, 'stamp', t[1] .. '.' .. t[2])
    redis.call('PEXPIRE', key, ARGV[1])
    count = count + 1
  end
end
return count
""")


class RedisTier:
    """A `cache.tier.Tier` in Redis, of one policy instance in one worker."""

    def __init__(
        self,
        server: RedisServer,
        instance: str,
        begin: Callable[[Coroutine[Any, Any, None], str], object] = spawn,
    ) -> None:
        """`begin` runs a coroutine by itself."""
        self.server = server
        self._begin = begin
        self._name = b"cache:%b:" % instance.encode()
        self._searches = 0
        self._stamps: LRUCache[bytes, bytes] = LRUCache(STAMPS)
        self._offers: OrderedDict[tuple[bytes, bytes], Call] = OrderedDict()  # by URI and field
        self._offered = 0
        self._forgotten: dict[bytes, None] = {}
        self._purges: list[tuple[str, bytes]] = []
        self._works = False

    @classmethod
    def of(cls, context: BuildContext) -> RedisTier:
        """The one of a policy's instance, kept over reloads. Raises `ConfigError`."""
        server = RedisServer.of(context, "cache")
        found: RedisTier | None = context.kept.get((context.instance, "tier"))
        if found is None or found.server is not server:
            found = context.kept[(context.instance, "tier")] = cls(server, context.instance)
        return found

    async def find(self, key: Key) -> list[bytes]:
        """See `cache.tier.Tier`."""
        uri = self._uri(key[2], key[4], key[5])
        if self._searches >= SEARCHES or self._purges or uri in self._forgotten:
            return []
        self._searches += 1
        try:
            (answer,) = await self.server.run([Call(_FIND, (uri,), (_digest(name_of(key)), VARIANTS))])
        except Unreachable:
            return []
        finally:
            self._searches -= 1
        if self._purges or uri in self._forgotten:  # meanwhile
            return []
        self._stamps[uri] = answer[0]
        found: list[bytes] = answer[1:]
        return found

    def offer(self, entry: Entry, value: bytes, seconds: float) -> None:
        """See `cache.tier.Tier`."""
        if seconds <= 0 or self._purges or not self.server.ready():
            return
        if len(self._offers) >= OFFERS or self._offered + len(value) > OFFERED:
            return
        _, _, host, _, path, query, _ = entry.key
        uri, field = self._uri(host, path, query), _digest(name_of(entry.key)) + _digest(variant_of(entry))
        tags = b"\n".join(entry.tags)
        arguments = (
            field,
            value,
            int(seconds * 1000),
            self._stamps.get(uri, b""),
            _url(host, path, query),
            tags,
            REPLIES,
        )
        self._drop(uri, field)
        self._offers[uri, field] = Call(_OFFER, (uri,), arguments)
        self._offered += len(value)
        self._look()

    def forget(self, host: bytes, path: bytes, query: bytes | None) -> None:
        """See `cache.tier.Tier`."""
        uri = self._uri(host, path, query)
        self._stamps.pop(uri, None)
        for _, field in [each for each in self._offers if each[0] == uri]:
            self._drop(uri, field)
        self._forgotten[uri] = None
        if len(self._forgotten) > FORGOTTEN:
            self._forgotten.clear()
            self._purges.append(("all", b""))
        self._look()

    def purge(self, kind: str, value: str) -> None:
        """Forget replies as `cache.store.Store.purge` does, but for the scheme of URLs. All keys are looked through;
        until that is done nothing is found, nor stored. Does not wait.
        """
        self._purges.append((kind, value.encode() if kind == "tag" else _plain(value.encode())))
        self._offers.clear()
        self._offered = 0
        self._stamps.clear()
        self._look()

    # -- what is done beside requests -----------------------------------------------------------------------------

    def _look(self) -> None:
        if not self._works:
            self._works = True
            self._begin(self._work(), "cache tier")

    async def _work(self) -> None:
        try:
            while self._forgotten or self._purges or self._offers:
                if not await self.step():
                    await asyncio.sleep(RETRY)
        finally:
            self._works = False

    async def step(self) -> bool:
        """Do the next thing; False: Redis is out."""
        try:
            if self._forgotten:
                await self._say_forgotten()
            elif self._purges:
                await self._purge(*self._purges[0])
                self._purges.pop(0)
            elif self._offers:
                (uri, field), call = next(iter(self._offers.items()))
                self._drop(uri, field)
                await self.server.run([call])
        except Unreachable as error:
            self._offers.clear()
            self._offered = 0
            if error.reason == "closed":
                self._forgotten.clear()
                self._purges.clear()
            return False
        return True

    async def _say_forgotten(self) -> None:
        uris = list(self._forgotten)[:_PAGE]
        await self.server.run([Call(_FORGET, uris, (_STAMPED, "", ""))])
        for uri in uris:
            self._forgotten.pop(uri, None)

    async def _purge(self, kind: str, value: bytes) -> None:
        own = self.server.prefix + self._name
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", own) + b"*"
        cursor = b"0"
        while True:
            arguments = ("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
            ((cursor, keys),) = await self.server.run([Call(None, (), arguments)])
            if keys:
                names = [key.removeprefix(self.server.prefix) for key in keys]
                arguments_of = (_STAMPED, "" if kind == "all" else kind, value)
                await self.server.run([Call(_FORGET, names, arguments_of)])
            if int(cursor) == 0:
                return

    def _drop(self, uri: bytes, field: bytes) -> None:
        call = self._offers.pop((uri, field), None)
        if call is not None:
            self._offered -= len(call.arguments[1])  # type: ignore[arg-type]

    def _uri(self, host: bytes, path: bytes, query: bytes | None) -> bytes:
        return self._name + _digest(_url(host, path, query))


def _digest(name: bytes) -> bytes:
    return blake2b(name, digest_size=16).hexdigest().encode()


def _url(host: bytes, path: bytes, query: bytes | None) -> bytes:
    return host + path if query is None else b"%b%b?%b" % (host, path, query)


def _plain(url: bytes) -> bytes:
    """A URL as it is stored: without scheme, its host in lower case."""
    host, slash, rest = url.rpartition(b"://")[2].partition(b"/")
    return host.lower() + slash + rest
