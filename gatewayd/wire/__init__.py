"""HTTP/1.1 on the wire: callers' connections, targets' connections, and the tunnel behind an upgrade."""
