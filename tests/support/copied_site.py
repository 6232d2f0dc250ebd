"""A site whose plain reads come from a copy that is behind, for tests that were written for others.

The copy knows nothing of what has been changed by way of the gateway. What a test itself puts into the sandbox is
copied at once, and so is everything when ``admin`` looks, which is how tests look at what has become of a change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from sqlite3 import Connection
from typing import Any

from support.gateways import PASSWORD

from evergreen_groups.gateway import Credentials, Gateway, Result
from evergreen_groups.sandbox import Sandbox

_SERVING = "process_request_thread"
"""What the sandbox calls the threads in which it answers."""


def copied_at_once(sandbox: Sandbox) -> Sandbox:
    """The sandbox, which copies whatever is written otherwise than by way of its gateway."""
    store = sandbox._store
    transaction = store.transaction

    @contextmanager
    def copied_transaction() -> Iterator[Connection]:
        with transaction() as connection:
            yield connection
        if _SERVING not in threading.current_thread().name and not store._transaction_depth:
            sandbox.catch_up()

    store.transaction = copied_transaction  # type: ignore[method-assign]
    return sandbox


class Looking(Gateway):
    """The superuser's gateway, for which the copy catches up before each call."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox.url, credentials=Credentials(username="admin", password=PASSWORD))
        self._sandbox = sandbox

    def call(self, service: str, method: str, *params: object, **options: Any) -> Result:
        """Call a method of what is there now."""
        self._sandbox.catch_up()
        return super().call(service, method, *params, **options)
