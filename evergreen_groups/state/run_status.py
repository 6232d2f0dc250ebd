"""How the last run of the report ended, the scheduled and the manual one, for people and for monitoring."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Transactions
    from evergreen_groups.state.lease import RemoteHolder
    from evergreen_groups.state.lock import Holder

_VERSION = 1
_SCHEDULED = "report"
_MANUAL = "manual report"


class RunOutcome(Enum):
    """How a run ended."""

    DONE = "done"
    PARTIAL = "partial"
    """The report was made, but something is missing in it or could not be sent; the exit status says what."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How one run ended. ``started`` and ``finished`` are aware; nothing in it is about a patron.

    ``exit_code`` is the command's exit status, ``error`` the name of the class of what ended a failed run.
    ``groups`` and ``members`` are how many were listed, None where it didn't come to that.
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
        """How long the run took."""
        return round((self.finished - self.started).total_seconds(), 1)

    def wrote_within(self, age: timedelta, now: datetime) -> bool:
        """Whether the run wrote a report, and ended less than ``age`` from ``now``.

        A run may have ended in the future if a clock was set back since.
        """
        return self.outcome is not RunOutcome.FAILED and abs(now - self.finished) < age

    def document(self) -> dict[str, Any]:
        """The values for JSON."""
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
    """Put the status in the place of the last scheduled run's, or of the last ``manual`` one's.

    ``within`` is the connection of a transaction that also writes other things.

    Raises:
        StateError: the database can't be used.
    """
    from sqlalchemy import delete

    from evergreen_groups.state.schema import run_status

    job = _MANUAL if manual else _SCHEDULED
    with transactions.writing() if within is None else nullcontext(within) as connection:
        connection.execute(delete(run_status).where(run_status.c.job == job))
        connection.execute(
            run_status.insert().values(
                job=job,
                outcome=status.outcome.value,
                started=status.started,
                finished=status.finished,
                exit_code=status.exit_code,
                error=status.error,
                groups=status.groups,
                members=status.members,
            )
        )


def read(transactions: Transactions, *, manual: bool = False) -> RunStatus | None:
    """How the last scheduled run ended, or the last ``manual`` one; None where none has yet.

    Raises:
        StateError: the database can't be used.
    """
    if not transactions.is_there:
        return None
    from sqlalchemy import select

    from evergreen_groups.state.schema import run_status

    job = _MANUAL if manual else _SCHEDULED
    with transactions.reading() as connection:
        row = connection.execute(select(run_status).where(run_status.c.job == job)).one_or_none()
        if row is None:
            return None
        return RunStatus(
            outcome=RunOutcome(row.outcome),
            started=row.started,
            finished=row.finished,
            exit_code=row.exit_code,
            error=row.error,
            groups=row.groups,
            members=row.members,
        )


def was_killed(last: RunStatus | None, holder: Holder | RemoteHolder | None) -> bool:
    """Whether the run that left its note in the lock has ended without telling how, as ``last`` did.

    Times are not compared but for being the same: the clock may have been set meanwhile.
    """
    if holder is None or holder.alive:
        return False
    return last is None or last.started != holder.since
