"""A site whose plain reads come from a lagging replica, for tests written for other sites.

The replica doesn't see changes made through the gateway. What a test writes to the sandbox itself is replicated at
once, and so is everything before calls of ``admin``, which tests use to look at the results.
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
"""The name of the sandbox's threads that serve requests."""


def replicated_at_once(sandbox: Sandbox) -> Sandbox:
    """Return a sandbox that replicates at once whatever isn't written through its gateway."""
    store = sandbox._store
    transaction = store.transaction

    @contextmanager
    def replicated_transaction() -> Iterator[Connection]:
        with transaction() as connection:
            yield connection
        if _SERVING not in threading.current_thread().name and not store._transaction_depth:
            sandbox.catch_up()

    store.transaction = replicated_transaction  # type: ignore[method-assign]
    return sandbox


class Looking(Gateway):
    """The superuser's gateway, which updates the replica before each call."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox.url, credentials=Credentials(username="admin", password=PASSWORD))
        self._sandbox = sandbox

    def call(self, service: str, method: str, *params: object, **options: Any) -> Result:
        self._sandbox.catch_up()
        return super().call(service, method, *params, **options)
