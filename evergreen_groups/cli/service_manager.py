"""What systemd is told of the service: that it is ready, reads its settings anew, stops (``sd_notify(3)``).

Written here because it is one datagram: the libraries for it bring bindings to C or a daemon's frame along.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("evergreen_groups.service_manager")


class ServiceManager:
    """The service manager that started this process; nothing is sent where ``environ`` names none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")

    def ready(self, status: str = "") -> None:
        """The service answers requests, or does again; ``status`` is what people are shown."""
        self._send("READY=1", *([f"STATUS={status}"] if status else []))

    def reloading(self) -> None:
        """The settings are being read anew; :meth:`ready` is to follow."""
        # systemd compares this with when it asked (Type=notify-reload).
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """No more requests are taken; those under way are finished."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifying:
                notifying.connect(address)
                notifying.sendall("\n".join(lines).encode())
        except OSError as error:
            log.warning("the service manager could not be told %s (%s)", lines[0], type(error).__name__)
