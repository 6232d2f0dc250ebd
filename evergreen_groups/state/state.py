"""What a program keeps between runs: the database, leases, the state directory, and how the last reports ended."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.message import Message
from evergreen_groups.plugins import Plugins
from evergreen_groups.state.files import REPORT_LOCK, gateway_key
from evergreen_groups.state.lock import LeaseName

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Database, Lease, Transactions
    from evergreen_groups.state.lock import Holder

_MAX_SEPARATE_LOCKS = 2_000
"""How many patrons and groups to lock one by one, limited by the size of the server's lock table.

A larger change locks all patrons at once, and waits until no other change is under way."""
_EVERYBODY = "everybody"
_REPORT = LeaseName("report", REPORT_LOCK, Message("another run is making the report"))
_EVENT = LeaseName("event", "events.lock", Message("another run is still handling this event"))


class State(AbstractContextManager["State"]):
    """The state of one installation, opened or created at first use. Safe to share between threads.

    ``directory`` is the state directory on this machine. ``database`` is the address of a PostgreSQL database that
    several machines share. Without one, everything is in the directory. ``plugins`` are notified of what was recorded.
    """

    def __init__(
        self, directory: Path, database: str | None = None, password: str | None = None, plugins: Plugins | None = None
    ) -> None:
        self.directory = directory
        self.plugins = plugins or Plugins()
        self.address = database
        self._password = password
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

                self._database = Database(self.directory, self.address, self._password)
            return self._database

    def load(self) -> None:
        _ = self.database

    def change_lease(
        self, gateway: str, patrons: Collection[int], groups: Collection[int] = (), timeout: float = 0.0
    ) -> AbstractContextManager[Lease]:
        """Hold the lease for changing these patrons (ids) and groups (numbers) at a gateway.

        Raise BusyError if another run still holds it for one of them after ``timeout`` seconds.
        """
        # Callers read the journal under the lease: without it, another run's step in progress looks like a leftover.
        return self.database.lease(_change_lease_name(gateway, patrons, groups), timeout)

    def is_being_changed(self, gateway: str, patrons: Collection[int]) -> bool:
        """Return whether any run holds the lease for changing one of these patrons (ids) at a gateway."""
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
        if self._database is not None:
            self._database.close()
            self._database = None

    def __exit__(self, *_error: object) -> None:
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


_STATUS_VERSION = 1
_SCHEDULED_RUN = "report"
_MANUAL_RUN = "manual report"


class RunOutcome(Enum):
    """The outcome of a run."""

    DONE = "done"
    PARTIAL = "partial"
    """The report was made, but part of it is missing or wasn't sent. The exit status says which."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The outcome of one run, without patron data. ``started`` and ``finished`` are aware.

    ``exit_code`` is the command's exit status, ``error`` the name of the exception class that ended a failed run.
    ``groups`` and ``members`` count what the report lists, None if the run didn't get that far.
    """

    outcome: RunOutcome
    started: datetime
    finished: datetime
    exit_code: int
    error: str | None = None
    groups: int | None = None
    members: int | None = None

    @property
    def seconds(self) -> float:
        """The duration of the run in seconds, with one decimal place."""
        return round((self.finished - self.started).total_seconds(), 1)

    def wrote_within(self, age: timedelta, now: datetime) -> bool:
        """Return whether the run wrote a report and ended less than ``age`` from ``now``."""
        # The end is in the future if a clock was set back since.
        return self.outcome is not RunOutcome.FAILED and abs(now - self.finished) < age

    def document(self) -> dict[str, Any]:
        """Return the values for JSON."""
        times = {"started": self.started.isoformat(), "finished": self.finished.isoformat(), "seconds": self.seconds}
        return {"version": _STATUS_VERSION, **asdict(self), "outcome": self.outcome.value, **times}


def write_run_status(
    transactions: Transactions, status: RunStatus, *, manual: bool = False, within: Connection | None = None
) -> None:
    """Replace the status of the last scheduled or ``manual`` run, if given ``within`` a connection's transaction."""
    from evergreen_groups.state.schema import run_status

    job = _MANUAL_RUN if manual else _SCHEDULED_RUN
    with transactions.writing() if within is None else nullcontext(within) as connection:
        connection.execute(run_status.delete().where(run_status.c.job == job))
        values = {**asdict(status), "job": job, "outcome": status.outcome.value}
        connection.execute(run_status.insert().values(values))


def read_run_status(transactions: Transactions, *, manual: bool = False) -> RunStatus | None:
    """Return the status of the last scheduled run, or with ``manual`` that of the last manual one. None without any."""
    if not transactions.is_there:
        return None
    from evergreen_groups.state.schema import run_status

    query = run_status.select().where(run_status.c.job == (_MANUAL_RUN if manual else _SCHEDULED_RUN))
    with transactions.reading() as connection:
        found = connection.execute(query).mappings().one_or_none()
        if found is None:
            return None
        values = {name: value for name, value in found.items() if name != "job"}
        return RunStatus(**{**values, "outcome": RunOutcome(found["outcome"])})
