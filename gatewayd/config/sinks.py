"""Where call records go besides the store: the tables `[sinks.<name>]`. `kind` says which options one has."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from gatewayd.config.units import Duration, Size
from gatewayd.config.values import Address, Bytes, Count, FieldValue, File, Section, ServerName, Span

PlainField = Literal[
    "request_id",
    "trace_id",
    "span_id",
    "parent_id",
    "sampled",
    "tenant",
    "consumer",
    "credential",
    "auth",
    "plan",
    "route",
    "service",
    "operation",
    "method",
    "listener",
    "host",
    "scheme",
    "status",
    "code",
    "reason",
    "verdicts",
    "target",
    "attempts",
    "total_us",
    "upstream_us",
    "bytes_in",
    "bytes_out",
    "tls",
    "fingerprint",
    "generation",
    "subject",
]
PersonalField = Literal["client", "peer", "agent", "values", "captured"]
"""What could tell of a person: nothing of it goes out unless `personal` says so, nor ever what was erased."""
Field = Literal[PlainField, PersonalField]

BatchSize = Annotated[int, Meta(ge=1, le=100_000)]
_IDENTIFIER = r"[a-z_][a-z0-9_]{0,62}"
Table = Annotated[
    str,
    Meta(
        pattern=rf"^({_IDENTIFIER}\.)?{_IDENTIFIER}$",
        extra={"allowed": 'a name such as "calls" or "gateway.calls": small letters, digits, underscores'},
    ),
]
DatabaseName = Annotated[
    str, Meta(pattern=rf"^{_IDENTIFIER}$", extra={"allowed": "small letters, digits and underscores"})
]
AppName = Annotated[
    str, Meta(pattern=r"^[!-~]{1,48}$", extra={"allowed": "1 to 48 printable characters (RFC 5424 §6.2.5)"})
]
HostName = Annotated[
    str, Meta(pattern=r"^[!-~]{0,255}$", extra={"allowed": "printable characters (RFC 5424 §6.2.4), or none"})
]
DataId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,20}@[0-9]{1,10}$",
        extra={"allowed": 'a name, "@" and an enterprise number, such as "call@32473" (RFC 5424 §7.2.2)'},
    ),
]
Facility = (
    Literal["user", "daemon", "auth", "authpriv"]
    | Literal["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]
)


class Sink(Section, frozen=True):
    """What every sink has."""

    fields: list[Field] = field(default_factory=list)  # what goes out; none: all but what is personal
    personal: bool = False  # whether what could tell of a person may go out
    start: Literal["oldest", "newest"] = "oldest"  # a new sink begins with what the store holds, or with what comes
    batch: BatchSize = 5_000  # records sent at once, at most
    interval: Span = Duration(1)  # how often it is looked for new records
    retry: Span = Duration(60)  # longest pause between two attempts while the target fails

    def __repr__(self) -> str:
        """Without options: some of them are secret."""
        return f"<{type(self).__name__}>"


class PostgresSink(Sink, frozen=True, kw_only=True, tag_field="kind", tag="postgres"):
    """A table in PostgreSQL. Needs the extra `postgres`."""

    url: str  # postgresql://user:password@host:5432/database
    table: Table = "gatewayd_calls"  # where the records go
    create: bool = True  # make the table, and columns that it lacks
    tls: Literal["verify", "require", "off"] = "verify"  # verify: with its name; require: with any certificate
    ca: File = ""  # PEM file of authorities; "": the system's
    timeout: Span = Duration(30)  # for connecting, and for a batch


class ClickhouseSink(Sink, frozen=True, kw_only=True, tag_field="kind", tag="clickhouse"):
    """A table in ClickHouse, or what speaks its HTTP interface."""

    url: str  # http://host:8123 or https://host:8443
    database: DatabaseName = "default"  # where the table is
    table: Table = "gatewayd_calls"  # where the records go
    create: bool = True  # make the table, and columns that it lacks
    user: FieldValue = "default"  # X-ClickHouse-User
    password: FieldValue = ""  # X-ClickHouse-Key
    compress: bool = True  # send with gzip
    ca: File = ""  # PEM file of authorities; "": the system's
    timeout: Span = Duration(30)  # for connecting, and for a batch


class FileSink(Sink, frozen=True, kw_only=True, tag_field="kind", tag="file"):
    """A file of JSON objects, one per line."""

    path: File  # where it is
    rotate_size: Size = Size(256 * 1024 * 1024)  # renamed when it would grow beyond; 0: never
    rotate_age: Duration = Duration(86_400)  # renamed this long after its first record; 0: never
    keep: Count = 0  # renamed files that are kept, the newest; 0: all
    sync: Literal["batch", "never"] = "batch"  # batch: on the disk before the position is; never: as the kernel likes


class SyslogSink(Sink, frozen=True, kw_only=True, tag_field="kind", tag="syslog"):
    """A syslog receiver (RFC 5424)."""

    address: Address  # "host:port" or "unix:/dev/log"
    transport: Literal["tcp", "tls", "udp"] = "tcp"  # RFC 6587 by octet counting, RFC 5425, RFC 5426
    facility: Facility = "local0"  # of the messages
    app_name: AppName = "gatewayd"  # APP-NAME
    hostname: HostName = ""  # HOSTNAME; "": this machine's
    data_id: DataId = "call@32473"  # SD-ID of a call's fields; 32473 is the number for examples (RFC 5612)
    max_message: Bytes = Size(8192)  # longer values are cut until a message fits
    server_name: ServerName = ""  # what the certificate must name; "": the address's host
    ca: File = ""  # PEM file of authorities; "": the system's
    cert: File = ""  # PEM file: our certificate, if the receiver asks for one
    key: File = ""  # PEM file: its private key
    timeout: Span = Duration(30)  # for connecting, and for a batch


AnySink = PostgresSink | ClickhouseSink | FileSink | SyslogSink
