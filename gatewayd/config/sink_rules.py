"""Rules of the tables `[sinks.<name>]` that span several values: fields, addresses, files, what must be there."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import get_args
from urllib.parse import SplitResult, parse_qs, urlsplit

from gatewayd.config import address as addresses
from gatewayd.config import certificates
from gatewayd.config.certificates import PemError
from gatewayd.config.faults import Faults
from gatewayd.config.keys import Key
from gatewayd.config.model import Document
from gatewayd.config.sinks import ClickhouseSink, FileSink, PersonalField, PostgresSink, Sink, SyslogSink

_PERSONAL = frozenset(get_args(PersonalField))
_POSTGRES_URL = "postgresql://user:password@host:5432/database, or postgresql://user@/database?host=/run/postgresql"
_CLICKHOUSE_URL = "http://host:8123 or https://host:8443"
_TOO_LONG = {"captured"}
"""Fields that fit into no syslog message."""


def check_sinks(document: Document, faults: Faults) -> None:
    """Note what is wrong with the sinks of a document whose single values are right."""
    if document.sinks and not document.audit.enabled:
        faults.add(("sinks",), "no call is recorded that could be sent", hint="set audit.enabled = true")
    elif document.sinks and not document.collector.enabled:
        hint = "set collector.enabled = true"
        faults.add(("sinks",), "records are sent from the call store, and there is none", hint=hint)
    if document.sinks and not document.control.enabled:
        faults.add(("sinks",), "the control process sends records, and it is off", hint="set control.enabled = true")
    paths: dict[str, str] = {}
    for name, sink in document.sinks.items():
        key = ("sinks", name)
        _fields(key, sink, faults)
        if isinstance(sink, PostgresSink):
            _postgres(key, sink, faults)
        elif isinstance(sink, ClickhouseSink):
            _clickhouse(key, sink, faults)
        elif isinstance(sink, SyslogSink):
            _syslog(key, sink, faults)
        else:
            _file(key, sink, faults)
            other = paths.setdefault(os.path.realpath(sink.path), name)
            if other != name:
                faults.add((*key, "path"), f"sinks.{other} writes there already", sink.path)


def _fields(key: Key, sink: Sink, faults: Faults) -> None:
    for index, name in enumerate(sink.fields):
        where = (*key, "fields", index)
        if name in _PERSONAL and not sink.personal:
            faults.add(where, "it could tell of a person", name, hint="set personal = true if it may go out")
        elif name in _TOO_LONG and isinstance(sink, SyslogSink):
            faults.add(where, "it is too long for a syslog message", name)


def _postgres(key: Key, sink: PostgresSink, faults: Faults) -> None:
    parts = _split(sink.url)
    query = parse_qs(parts.query, keep_blank_values=True) if parts else {}
    socket = query.get("host", [""])[-1]
    if parts is None or parts.scheme not in ("postgresql", "postgres") or not (parts.hostname or socket):
        faults.add((*key, "url"), "this is no URL of a PostgreSQL server", allowed=_POSTGRES_URL)
    elif not parts.path.strip("/"):
        faults.add((*key, "url"), "it names no database", allowed=_POSTGRES_URL)
    else:
        for option in sorted(query.keys() - {"host"}):
            hint = "set tls" if option.startswith("ssl") else ""
            faults.add((*key, "url"), "this option cannot be set here", option, allowed="host", hint=hint)
    for package in ("sqlalchemy", "asyncpg"):
        if find_spec(package) is None:
            faults.add(key, f"{package} is not installed", hint="pip install 'gatewayd[postgres]'")
            return
    _pem((*key, "ca"), sink.ca, certificates.check_authorities, faults)


def _clickhouse(key: Key, sink: ClickhouseSink, faults: Faults) -> None:
    parts = _split(sink.url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        faults.add((*key, "url"), "this is no URL of a ClickHouse server", allowed=_CLICKHOUSE_URL)
    elif parts.username is not None or parts.password is not None:
        faults.add((*key, "url"), "it names a user", allowed=_CLICKHOUSE_URL, hint="set user and password")
    elif parts.query or parts.fragment:
        faults.add((*key, "url"), "it says more than where", allowed=_CLICKHOUSE_URL)
    if "." in sink.table:
        faults.add((*key, "table"), "the database stands in an option of its own", sink.table, hint="set database")
    _pem((*key, "ca"), sink.ca, certificates.check_authorities, faults)


def _syslog(key: Key, sink: SyslogSink, faults: Faults) -> None:
    try:
        address = addresses.parse(sink.address)
    except ValueError as error:
        faults.add((*key, "address"), str(error), sink.address, allowed='"host:port" or "unix:/dev/log"')
        return
    if address.path and sink.transport == "tls":
        faults.add((*key, "transport"), "a unix socket has no TLS", sink.transport)
    if not address.path and not address.port:
        faults.add((*key, "address"), "the port is 0", sink.address, allowed="a port from 1 to 65535")
    for name in ("server_name", "ca", "cert", "key"):
        if getattr(sink, name) and sink.transport != "tls":
            faults.add((*key, name), f'nothing is encrypted by transport = "{sink.transport}"')
    if sink.key and not sink.cert:
        faults.add((*key, "cert"), "a key needs its certificate")
    _pem((*key, "ca"), sink.ca, certificates.check_authorities, faults)
    _pem((*key, "cert"), sink.cert, certificates.check_chain, faults)
    if sink.cert:
        _pem((*key, "key"), sink.key or sink.cert, lambda path: certificates.check_key(path, None), faults)


def _file(key: Key, sink: FileSink, faults: Faults) -> None:
    place = sink.path if os.path.lexists(sink.path) else str(Path(sink.path).parent)
    if not sink.path or sink.path in ("stdout", "stderr") or os.path.isdir(sink.path) or not os.access(place, os.W_OK):
        allowed = "a file in a directory that exists"
        faults.add((*key, "path"), "cannot be written", sink.path, allowed=allowed)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _pem(key: Key, path: str, use: Callable[[str], object], faults: Faults) -> None:
    if path:
        try:
            use(path)
        except PemError as error:
            faults.add(key, str(error), path)
