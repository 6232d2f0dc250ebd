"""What is on record of a run when it has ended: its status, the call of the healthcheck, and a page where it failed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.nightly.failure import leave_page
from evergreen_groups.nightly.readers import Readers
from evergreen_groups.nightly.run_wording import not_stored
from evergreen_groups.state import RunOutcome, RunStatus, run_status

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.nightly.environment import ReportEnvironment
    from evergreen_groups.nightly.options import ReportOptions
    from evergreen_groups.report import Report
    from evergreen_groups.state import Transactions

log = logging.getLogger("evergreen_groups.report_run")


class RunRecord:
    """How one run ended. ``options`` are known once the settings are read, ``reports`` once the ILS has been.

    ``healthcheck_url`` is the command line's: it is called also where the settings are bad. What a ``scheduled`` run
    leaves is for monitoring. A manual one has a status of its own, and calls nobody but whom the command line names;
    where it ``is_recorded`` for later ones to compare with, a failure leaves a page as well.
    """

    def __init__(
        self, environment: ReportEnvironment, healthcheck_url: str | None, *, scheduled: bool, is_recorded: bool
    ) -> None:
        self._environment = environment
        self._healthcheck_url = healthcheck_url
        self._scheduled = scheduled
        self._is_recorded = is_recorded
        self.options: ReportOptions | None = None
        self.reports: Sequence[Report] = ()
        self.started = datetime.now(UTC)
        self.is_stored = False
        """Whether mails, history and status have been written, so that no other run makes these reports again."""

    def write(
        self,
        transactions: Transactions,
        exit_code: int,
        error: BaseException | None,
        within: Connection,
    ) -> None:
        """Write the status that holds if the run goes no further.

        ``within`` is the connection of a transaction that also writes other things.

        Raises:
            StateError: the database can't be written.
        """
        status = self._status(transactions, exit_code, error)
        run_status.write(transactions, status, manual=not self._scheduled, within=within)

    def publish(self, transactions: Transactions, exit_code: int, error: BaseException | None = None) -> int:
        """Write the status and call the healthcheck; give the exit status, which a full disk makes a failure."""
        status = self._status(transactions, exit_code, error)
        problem = None
        try:
            run_status.write(transactions, status, manual=not self._scheduled)
        except EvergreenGroupsError as refusal:
            if self._is_recorded:
                problem, exit_code = refusal, exit_code or exit_status.FAILED
            log.info("the status of this run could not be stored: %s", type(refusal).__name__)
        if status.outcome is RunOutcome.FAILED and self._is_recorded:
            for job in self.options.jobs if self.options else ():
                leave_page(job.target, status, error, Readers(self._environment.settings.language).of_all)
        self.call_healthcheck(well=exit_code == exit_status.DONE)
        if problem is not None:
            self._environment.emit(not_stored(problem), error=True)
        self._write_textfile(status, transactions)
        return exit_code

    def lost(self, error: EvergreenGroupsError) -> None:
        """Tell monitoring of a run that could not even begin, because nobody knows where to record it."""
        self.call_healthcheck(well=False)
        self._write_textfile(self._status(None, exit_status.for_exception(error), error), None)

    def _write_textfile(self, status: RunStatus, transactions: Transactions | None) -> None:
        """Write the figures for monitoring where they are wanted; what goes wrong is only a warning."""
        with suppress(ConfigurationError):  # settings that can't be read have ended the run, and say nothing of a file
            if (path := self._environment.settings.metrics.textfile) is None:
                return
            try:
                from evergreen_groups.metrics import write_textfile

                write_textfile(path, status, transactions)
            except ModuleNotFoundError:
                log.warning("the metrics are not written: pip install 'evergreen-groups[metrics]'")
            except EvergreenGroupsError as error:
                log.warning("the metrics are not written: %s", error)

    def call_healthcheck(self, *, well: bool) -> None:
        """Tell the monitoring service, where there is one."""
        url = self.options.healthcheck_url if self.options else self._healthcheck_url
        if url and (self._scheduled or self._healthcheck_url):
            from evergreen_groups.nightly import healthcheck

            healthcheck.call(url, well=well)

    def _status(self, transactions: Transactions | None, exit_code: int, error: BaseException | None) -> RunStatus:
        """Of several reports each group counts once."""
        finished = datetime.now(UTC)
        if transactions is not None:
            with suppress(EvergreenGroupsError):  # then the status can't be written either
                finished = transactions.now()
        failed = error is not None and not self.is_stored
        groups = {group.number: group for report in self.reports for group in report.groups}
        return RunStatus(
            outcome=RunOutcome.FAILED if failed else RunOutcome.PARTIAL if exit_code else RunOutcome.DONE,
            started=self.started,
            finished=finished,
            exit_code=exit_code,
            error=type(error).__name__ if error else None,
            groups=len(groups) if self.reports else None,
            members=sum(group.member_count for group in groups.values()) if self.reports else None,
        )
