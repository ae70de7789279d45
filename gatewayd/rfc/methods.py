"""Request methods (RFC 9110 §9, and those registered for WebDAV and its like)."""

from __future__ import annotations

METHODS = frozenset(
    b"GET HEAD POST PUT DELETE PATCH OPTIONS TRACE CONNECT QUERY ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY "
    b"MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SUBSCRIBE UNBIND UNLINK UNLOCK "
    b"UNSUBSCRIBE M-SEARCH".split()
)
"""Methods that routes can be made for; others are answered 501."""
