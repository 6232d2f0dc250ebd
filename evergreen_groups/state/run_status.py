"""The outcome of the last report runs, scheduled and manual, for administrators and monitoring."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Transactions
    from evergreen_groups.state.lock import Holder

_VERSION = 1
_SCHEDULED = "report"
_MANUAL = "manual report"


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
        """Return whether the run wrote a report and ended less than ``age`` from ``now``.

        The end may be in the future if a clock was set back since.
        """
        return self.outcome is not RunOutcome.FAILED and abs(now - self.finished) < age

    def document(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "version": _VERSION,
            "outcome": self.outcome.value,
            "started": self.started.isoformat(),
            "finished": self.finished.isoformat(),
            "seconds": self.seconds,
            "groups": self.groups,
            "members": self.members,
            "exit_code": self.exit_code,
            "error": self.error,
        }


def write(
    transactions: Transactions, status: RunStatus, *, manual: bool = False, within: Connection | None = None
) -> None:
    """Replace the status of the last scheduled run, or with ``manual`` that of the last manual one.

    ``within`` is the connection of a transaction that also writes other data.

    Raises:
        StateError: the database can't be used.
    """
    from sqlalchemy import delete

    from evergreen_groups.state.schema import run_status

    job = _MANUAL if manual else _SCHEDULED
    with transactions.writing() if within is None else nullcontext(within) as connection:
        connection.execute(delete(run_status).where(run_status.c.job == job))
        values = {**asdict(status), "job": job, "outcome": status.outcome.value}
        connection.execute(run_status.insert().values(values))


def read(transactions: Transactions, *, manual: bool = False) -> RunStatus | None:
    """Return the status of the last scheduled run, or with ``manual`` that of the last manual one. None without any.

    Raises:
        StateError: the database can't be used.
    """
    if not transactions.is_there:
        return None
    from sqlalchemy import select

    from evergreen_groups.state.schema import run_status

    job = _MANUAL if manual else _SCHEDULED
    with transactions.reading() as connection:
        found = connection.execute(select(run_status).where(run_status.c.job == job)).mappings().one_or_none()
        if found is None:
            return None
        values = {name: value for name, value in found.items() if name != "job"}
        return RunStatus(**{**values, "outcome": RunOutcome(found["outcome"])})


def was_killed(last: RunStatus | None, holder: Holder | None) -> bool:
    """Return whether the run that left a note in the lock ended without recording the status ``last``.

    Compare times only for equality, because the clock may have been set in between.
    """
    if holder is None or holder.alive:
        return False
    return last is None or last.started != holder.since
