"""Telling systemd how the daemon is doing: datagrams to `$NOTIFY_SOCKET` (sd_notify(3)).

Whoever listens there must never hold the daemon up, so a datagram that cannot be sent is dropped.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Speaks to the service manager; silent where there is none."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Read `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID` (sd_watchdog_enabled(3)) from `environ`."""
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        meant = environ.get("WATCHDOG_PID", "")
        asked = environ.get("WATCHDOG_USEC", "")
        ours = self._address and asked.isdigit() and meant in ("", str(os.getpid()))
        self.watchdog_interval = int(asked) / 2e6 if ours else 0.0
        """Seconds between two `watchdog()` calls, half of what the manager waits; 0: not asked for."""

    def ready(self, status: str) -> None:
        """The daemon serves; also said when a reload has ended."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins. Its time stamp is what `Type=notify-reload` wants."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reloading")

    def stopping(self) -> None:
        """Draining has begun."""
        self._send("STOPPING=1\nSTATUS=draining")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def successor(self, pid: int) -> None:
        """From now on `pid` is the service's main process; what it says counts."""
        self._send(f"MAINPID={pid}")

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text.encode(), self._address)
        except OSError:
            pass
