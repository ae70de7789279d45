"""What a target received, taken apart."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import h11

from tests.support.edge import EdgeThread
from tests.support.raw import Answer, Caller
from tests.support.upstream import OK, ScriptedUpstream, answer


class Sent(NamedTuple):
    """A request's head as the target got it; field names as they came."""

    line: bytes
    fields: list[tuple[bytes, bytes]]

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for found, value in self.fields if found.lower() == name]


def take_apart(head: bytes) -> Sent:
    """A complete head; h11 must read it as one request."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(head)
    event = parser.next_event()
    assert isinstance(event, h11.Request), event
    lines = head[:-4].split(b"\r\n")
    pairs = [line.split(b": ", 1) for line in lines[1:]]
    return Sent(lines[0], [(name, value) for name, value in pairs])


def asked(up: ScriptedUpstream) -> Sent:
    """The last request that reached `up`."""
    *_, head = re.finditer(rb"[A-Z]+ /\S* HTTP/1\.1\r\n.*?\r\n\r\n", up.peers[-1].received, re.DOTALL)
    return take_apart(head[0])


def through(document: dict[str, Any], up: ScriptedUpstream, request: bytes) -> tuple[Sent, Answer]:
    """Send `request` by an edge that serves `document`; what arrived, and what came back."""
    with EdgeThread(document) as edge, Caller(edge.port) as caller:
        caller.send(request)
        found = caller.answer(request.split(b" ", 1)[0].decode())
        return asked(up), found


def forwarded(document_for: Any, request: bytes, reply: bytes = OK) -> tuple[Sent, Answer]:
    """The same with a target of its own, which answers `reply`; `document_for(port)` makes the document."""
    with ScriptedUpstream(answer(reply)) as up:
        return through(document_for(up.port), up, request)
