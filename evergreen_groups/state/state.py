"""What a program keeps between runs: the database, the leases, and the state directory."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.message import Message
from evergreen_groups.state.files import REPORT_LOCK, gateway_key
from evergreen_groups.state.lock import LeaseName

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType
    from typing import Self

    from evergreen_groups.state.database import Database, Lease
    from evergreen_groups.state.lock import Holder

_MAX_SEPARATE_LOCKS = 2_000
"""How many patrons and groups to lock one by one, limited by the size of the server's lock table.

A larger change locks all patrons at once, and waits until no other change is under way."""
_EVERYBODY = "everybody"
_REPORT = LeaseName("report", REPORT_LOCK, Message("another run is making the report"))
_EVENT = LeaseName("event", "events.lock", Message("another run is still working on an event"))


class State:
    """The state of one installation, opened or created at first use. Safe to share between threads.

    ``directory`` is the state directory on this machine. ``database`` is the address of a PostgreSQL database that
    several machines share, with its ``password``. Without an address, everything is in the directory.
    """

    def __init__(self, directory: Path, database: str | None = None, password: str | None = None) -> None:
        self.directory = directory
        self._address = database, password
        self._database: Database | None = None
        self._lock = threading.Lock()

    @property
    def database(self) -> Database:
        """The database, not opened yet at first."""
        with self._lock:
            if self._database is None:
                # SQLAlchemy is slow to import, and some commands never need it. Import it under this lock, before any
                # other module does: two threads that import it at once may see it half initialized.
                from evergreen_groups.state.database import Database

                self._database = Database(self.directory, *self._address)
            return self._database

    def load(self) -> None:
        """Import what the database needs ahead of time, without opening it.

        Raises:
            ConfigurationError: the database's address is invalid.
        """
        _ = self.database

    def change_lease(
        self, gateway: str, patrons: Collection[int], groups: Collection[int] = (), timeout: float = 0.0
    ) -> AbstractContextManager[Lease]:
        """Hold the lease for changing these patrons (ids) and groups (numbers) at a gateway.

        ``timeout`` is how many seconds to wait for other holders. Runs on different patrons and groups don't wait for
        each other.

        Raises:
            BusyError: another run holds the lease.
            StateError: the database can't be reached.
        """
        # Callers read the journal under the lease: without it, another run's step in progress looks like a leftover.
        return self.database.lease(_change_lease_name(gateway, patrons, groups), timeout)

    def is_being_changed(self, gateway: str, patrons: Collection[int]) -> bool:
        """Return whether any run holds the lease for changing one of these patrons (ids) at a gateway.

        Raises:
            StateError: the database can't be reached.
        """
        return self.database.is_leased(_change_lease_name(gateway, patrons))

    def event_lease(self, event: str, timeout: float) -> AbstractContextManager[Lease]:
        """Hold the lease for the event that the key ``event`` identifies. Raises the errors of :meth:`change_lease`."""
        # A part, so that no note is written: a killed process would leave the note, with a patron's id, for good.
        return self.database.lease(_EVENT.part(event), timeout)

    def report_lease(self, timeout: float = 0.0) -> AbstractContextManager[Lease]:
        """Hold the lease for making the report. Raises the errors of :meth:`change_lease`."""
        return self.database.lease(_REPORT, timeout)

    def report_holder(self) -> Holder | None:
        """Return the report run in progress, or one that was killed (its process isn't ``alive``)."""
        return self.database.lease_holder(_REPORT)

    def close(self) -> None:
        """Close all connections."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _change_lease_name(gateway: str, patrons: Collection[int], groups: Collection[int] = ()) -> LeaseName:
    parts = {f"patron {patron}" for patron in patrons} | {f"group {group}" for group in groups}
    name = LeaseName(
        f"changes {gateway}",
        f"{gateway_key(gateway)}.lock",
        Message("another run is changing one of these patrons or groups"),
        frozenset(parts or {"none"}),
        _EVERYBODY,
    )
    return name if len(parts) <= _MAX_SEPARATE_LOCKS else replace(name, parts=frozenset({_EVERYBODY}), shared="")
