"""The clock of the gateways in this process: the machine's, advanced by tests.

So a late call doesn't need a short timeout, which a timely call could miss on a slow machine.
"""

import time
from importlib import import_module

import pytest

MODULES = ("call", "gateway", "sender", "transport")
"""The modules that measure how long calls take."""


class GatewayTime:
    """Replaces the module ``time`` in them."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Return seconds on the clock for deadlines."""
        return time.monotonic() + self._ahead

    def pass_over(self) -> None:
        """Advance the clock by an hour: all pending calls are late."""
        self._ahead += 3600.0


def gateway_time_of(monkeypatch: pytest.MonkeyPatch) -> GatewayTime:
    """Yield the gateways' clock until the test ends."""
    stands_in = GatewayTime()
    for module in MODULES:
        monkeypatch.setattr(import_module(f"evergreen_groups.gateway.{module}"), "time", stands_in)
    return stands_in
