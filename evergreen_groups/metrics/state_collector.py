"""What the state's database knows: how the last night went, what it found, and what is left open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.metrics.samples import samples_of
from evergreen_groups.report import history
from evergreen_groups.state import RunOutcome, RunStatus, run_status, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from prometheus_client.core import Metric

    from evergreen_groups.report import RunTotals
    from evergreen_groups.state import Transactions

ALL_LIBRARIES = "*"
"""What the sums of all libraries have in place of a library's short name."""

FRESH_SECONDS = 5.0
"""How long what was read is taken to be true: however often somebody looks, the database isn't asked more often."""
PAUSE_SECONDS = 30.0
"""How long a database that could not be used is left alone: it may take seconds to find out."""


class StateCollector:
    """Reads the database of ``transactions`` when somebody looks. Safe to share between threads.

    ``transactions`` gives the one that counts at the time. What a database that can't be used is asked for is left
    out, and ``database_up`` says so.
    """

    def __init__(self, transactions: Callable[[], Transactions]) -> None:
        self._transactions = transactions
        self._lock = threading.Lock()
        self._read: tuple[Metric, ...] = ()
        self._until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Nothing: whoever registers this mustn't read the database for it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What it knows now."""
        with self._lock:  # whoever looks at the same time gets the same
            if time.monotonic() >= self._until:
                seconds = FRESH_SECONDS
                try:
                    self._read = (*figures(self._transactions()), samples_of("database_up", [((), 1)]))
                except EvergreenGroupsError:
                    seconds, self._read = PAUSE_SECONDS, (samples_of("database_up", [((), 0)]),)
                self._until = time.monotonic() + seconds
            read = self._read
        yield from read


def figures(transactions: Transactions, status: RunStatus | None = None) -> list[Metric]:
    """What the database knows; ``status`` is how the last run ended, looked up unless given.

    Raises:
        StateError: the database can't be used.
    """
    status = status or run_status.read(transactions)
    totals = history.latest_totals(transactions)
    found = list(of_the_run(status)) if status else []
    if written := last_written(status, totals):
        found.append(samples_of("last_report_timestamp_seconds", [((), written.timestamp())]))
    found += _of_reports(totals)
    if transactions.is_there:
        with transactions.reading() as connection:
            waiting = select(func.count()).select_from(schema.steps).where(schema.steps.c.state == "sending")
            steps = connection.execute(waiting).scalar_one()
            mails = connection.execute(select(func.count()).select_from(schema.mails)).scalar_one()
        found += [samples_of("journal_open_steps", [((), steps)]), samples_of("outbox_mails", [((), mails)])]
    return found


def last_written(
    status: RunStatus | None, totals: Mapping[str, Mapping[str, RunTotals]] | None = None
) -> datetime | None:
    """When a run last wrote a report, as far as is known; a failed one has left that of the run before it."""
    if status is not None and status.outcome is not RunOutcome.FAILED:
        return status.finished
    return max((found[""].at for found in (totals or {}).values()), default=None)


def of_the_run(status: RunStatus) -> Iterator[Metric]:
    """How a run ended."""
    yield samples_of("last_run_timestamp_seconds", [((), status.finished.timestamp())])
    yield samples_of("last_run_seconds", [((), status.seconds)])
    outcomes = [((outcome.value,), float(outcome is status.outcome)) for outcome in RunOutcome]
    yield samples_of("last_run_outcome", outcomes)
    yield samples_of("last_run_exit_status", [((), status.exit_code)])


def _of_reports(totals: Mapping[str, Mapping[str, RunTotals]]) -> Iterator[Metric]:
    yield samples_of(
        "report_timestamp_seconds", [((name,), found[""].at.timestamp()) for name, found in totals.items()]
    )
    rows = [
        ((name, library or ALL_LIBRARIES), sums) for name, found in totals.items() for library, sums in found.items()
    ]
    yield samples_of("report_groups", [(labels, sums.group_count) for labels, sums in rows])
    yield samples_of("report_members", [(labels, sums.member_count) for labels, sums in rows])
    fines = [(labels, sums.combined_fines) for labels, sums in rows if sums.combined_fines is not None]
    yield samples_of("report_combined_fines", fines)
