"""The time of gateways in this process: it goes as the machine's does, and further where a test says so.

A call that is to be late needn't have a limit, then, that one which is to come in time could miss on a slow machine.
"""

from __future__ import annotations

import time
from importlib import import_module

import pytest

MODULES = ("call", "sender", "transport")
"""Those that look how long a call and all calls together have taken."""


class GatewayTime:
    """Stands in for the module ``time`` in these."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Seconds, on the clock that deadlines are on."""
        return time.monotonic() + self._ahead

    def pass_over(self) -> None:
        """Let an hour pass: whatever is waited for now is late."""
        self._ahead += 3600.0


def gateway_time_of(monkeypatch: pytest.MonkeyPatch) -> GatewayTime:
    """The time of the gateways until the test ends."""
    stands_in = GatewayTime()
    for module in MODULES:
        monkeypatch.setattr(import_module(f"evergreen_groups.gateway.{module}"), "time", stands_in)
    return stands_in
