"""Whether a site answers plain reads from copies of its database, which may be seconds behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from evergreen_groups.errors import MethodNotFoundError, UnexplainedError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway.gateway import Gateway

_METHOD = "opensrf.open-ils.system.use_authoritative"
# The site's opensrf.xml says it, and its services are restarted for that.
_SECONDS = 300.0
# A Perl truth: nothing, an empty text (releases-056) or a nought is no.
_ANSWERS = {None: False, "": False, "0": False, 0: False, "1": True, 1: True}


class Copies:
    """Whether there are such copies, or may be: asked once for a server, and again after five minutes.

    Where there are, the ``.authoritative`` form of a method reads where changes are written. Elsewhere it is the plain
    one under another name (``OpenILS/Application.pm``, authoritative_wrapper). pcrud has no such form.
    """

    def __init__(self) -> None:
        self._answer = False
        self._until = -1.0  # of the monotonic clock, in seconds
        self._lock = threading.Lock()

    def are_read(self, gateway: Gateway) -> bool:
        """Whether plain reads come from them."""
        with self._lock:
            if time.monotonic() < self._until:
                return self._answer
        answer = _ask(gateway)  # outside the lock: a slow ILS is to hold up nobody else
        with self._lock:
            self._answer, self._until = answer, time.monotonic() + _SECONDS
        return answer


def _ask(gateway: Gateway) -> bool:
    try:
        result = gateway.call("open-ils.actor", _METHOD, expect="optional")
    except (MethodNotFoundError, UnexplainedError):
        # Before 3.12 nobody says so (3.11/releases-056), over the Rust gateway without a reason; and an .authoritative
        # form always reads where is written.
        return True
    if isinstance(result.value, dict | list) or result.value not in _ANSWERS:
        raise result.unexpected(Message("a boolean"))
    return _ANSWERS[result.value]
