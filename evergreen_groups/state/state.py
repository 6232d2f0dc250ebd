"""What a program keeps between its runs: the database, the leases, and the directory that both may be in."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.message import Message
from evergreen_groups.state.files import REPORT_LOCK, gateway_key

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType
    from typing import Self

    from evergreen_groups.state.database import Database
    from evergreen_groups.state.lease import Lease, LeaseName, RemoteHolder
    from evergreen_groups.state.lock import Holder

_MOST_APART = 2_000
"""How many patrons and groups are held one by one: as many locks as a server's table of them has room for, beside those
of others. Who changes more holds everybody, and waits until nobody changes anything."""
_EVERYBODY = "everybody"


class State:
    """The state of one installation; nothing is opened or made before it is used. Safe to share between threads.

    ``directory`` is its own on this machine. ``database`` is the address of a PostgreSQL database that several machines
    share, with its ``password``; without one everything is in that directory.
    """

    def __init__(self, directory: Path, database: str | None = None, password: str | None = None) -> None:
        self.directory = directory
        self._address = database, password
        self._database: Database | None = None
        self._lock = threading.Lock()

    @property
    def database(self) -> Database:
        """The database."""
        with self._lock:
            if self._database is None:
                # SQLAlchemy takes longer to import than a command that keeps nothing may run. Whatever else needs it
                # comes after this: two threads that import it at once find it half made.
                from evergreen_groups.state.database import Database

                self._database = Database(self.directory, *self._address)
            return self._database

    def load(self) -> None:
        """Load what the database needs, in good time; nothing is opened yet.

        Raises:
            ConfigurationError: the database's address won't do.
        """
        _ = self.database

    def changing(
        self, gateway: str, patrons: Collection[int], groups: Collection[int] = (), timeout: float = 0.0
    ) -> AbstractContextManager[Lease]:
        """Hold the lease for changing these patrons (ids) and groups (numbers) at a gateway.

        ``timeout`` is how many seconds at most to wait for whoever holds it for one of them: each waits for nobody but
        those who are at the same patrons and groups.

        Raises:
            BusyError: another run holds it.
            StateError: the database can't be reached.
        """
        database = self.database
        from evergreen_groups.state.lease import lease

        # Held before the journal is read: a step that another run is just sending looks like one left open by a crash.
        return lease(database, self.directory, _changes(gateway, patrons, groups), timeout)

    def is_changing(self, gateway: str, patrons: Collection[int]) -> bool:
        """Whether somebody holds the lease for changing one of these patrons (ids) at a gateway.

        Raises:
            StateError: the database can't be reached.
        """
        database = self.database
        from evergreen_groups.state.lease import is_part_held

        return is_part_held(database, self.directory, _changes(gateway, patrons))

    def working_on(self, event: str, timeout: float) -> AbstractContextManager[Lease]:
        """Hold the lease for one event, told from others by ``event``; raises what :meth:`changing` raises."""
        database = self.database
        from evergreen_groups.state.lease import LeaseName, lease

        # Not noted: of one whose process was killed the note would stay for good, and has a patron's id in it.
        name = LeaseName(
            "event", "events.lock", Message("another run is still working on an event"), frozenset({event})
        )
        return lease(database, self.directory, name, timeout)

    def reporting(self, timeout: float = 0.0) -> AbstractContextManager[Lease]:
        """Hold the lease for making the report; raises what :meth:`changing` raises."""
        database = self.database
        from evergreen_groups.state.lease import lease

        return lease(database, self.directory, _report(), timeout)

    def reporter(self) -> Holder | RemoteHolder | None:
        """The run of the report that is being made now, or that was killed (its process is not ``alive`` any more)."""
        database = self.database
        from evergreen_groups.state.lease import lease_holder

        return lease_holder(database, self.directory, _report())

    def close(self) -> None:
        """Close the connections."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _changes(gateway: str, patrons: Collection[int], groups: Collection[int] = ()) -> LeaseName:
    from evergreen_groups.state.lease import LeaseName

    parts = {f"patron {patron}" for patron in patrons} | {f"group {group}" for group in groups}
    name = LeaseName(
        f"changes {gateway}",
        f"{gateway_key(gateway)}.lock",
        Message("another run is changing one of these patrons or groups"),
        frozenset(parts or {"none"}),
        _EVERYBODY,
    )
    return name if len(parts) <= _MOST_APART else replace(name, parts=frozenset({_EVERYBODY}), shared="")


def _report() -> LeaseName:
    from evergreen_groups.state.lease import LeaseName

    return LeaseName("report", REPORT_LOCK, Message("another run is making the report"))
