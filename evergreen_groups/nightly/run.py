"""One run of the report: read, compare, write, record, mail; one at a time, in time, and its outcome on record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.errors import EvergreenGroupsError, HistoryError
from evergreen_groups.formats import require
from evergreen_groups.nightly.deadline import CUT_OFF, Deadline
from evergreen_groups.nightly.output import Rendered, write
from evergreen_groups.report import WAIT, History, build_report, look_up_cleared
from evergreen_groups.state import RunOutcome, RunStatus, report_lock, run_status

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.mail import Mailer
    from evergreen_groups.nightly.environment import ReportEnvironment
    from evergreen_groups.nightly.options import ReportOptions
    from evergreen_groups.report import Criteria, Report


_NOT_COMPARED = "What changed since the last run isn't known: the history of the runs could not be used."

log = logging.getLogger("evergreen_groups.report_run")


class ReportRun:
    """One run. ``choose`` says what it is to do, and is asked once the run is on record: it may find a bad setting.

    A run that is ``recorded`` has the lock, keeps its figures in the history, writes the status file and calls the
    healthcheck. Another one only looks. ``healthcheck_url`` is the one of the command line, which is called also where
    the settings are bad.
    """

    def __init__(
        self,
        environment: ReportEnvironment,
        choose: Callable[[], ReportOptions],
        *,
        recorded: bool,
        healthcheck_url: str | None = None,
    ) -> None:
        self._environment = environment
        self._choose = choose
        self._recorded = recorded
        self._healthcheck_url = healthcheck_url
        self._options: ReportOptions | None = None
        self._report: Report | None = None
        self._rendered: Rendered | None = None
        self._problem: HistoryError | None = None

    def __call__(self) -> int:
        """Make the report and give the exit status.

        Standard output comes last, when the lock is free again: somebody may read it page by page.
        """
        try:
            with self._environment.state_directory() as directory:
                if self._recorded:
                    with report_lock(directory) as holder:
                        status = self._on_record(directory, holder.since)
                else:
                    status = self._in_time(directory)
        except EvergreenGroupsError:
            self._show()  # what there is
            raise
        self._show()
        return status

    def _on_record(self, directory: Path, started: datetime) -> int:
        """Make the report, and write down how that went, however it ends."""
        try:
            status = self._in_time(directory)
        except BaseException as error:
            self._publish_status(directory, started, exit_status.for_exception(error), type(error).__name__)
            raise
        return self._publish_status(directory, started, status)

    def _publish_status(self, directory: Path, started: datetime, exit_code: int, error: str | None = None) -> int:
        """Write the status file and call the healthcheck; give the exit status, which a full disk makes a failure."""
        outcome = RunOutcome.FAILED if error else RunOutcome.PARTIAL if exit_code else RunOutcome.DONE
        totals = self._report.totals if self._report else None
        status = RunStatus(
            outcome=outcome,
            started=started,
            finished=datetime.now(UTC),
            exit_code=exit_code,
            error=error,
            groups=totals.group_count if totals else None,
            members=totals.member_count if totals else None,
        )
        problem = None
        try:
            run_status.write(directory, status)
        except EvergreenGroupsError as refusal:
            problem, exit_code = refusal, exit_code or exit_status.FAILED
        if url := self._options.healthcheck_url if self._options else self._healthcheck_url:
            from evergreen_groups.nightly import healthcheck

            healthcheck.call(url, well=exit_code == exit_status.DONE)
        if problem is not None:
            self._environment.emit(f"the status of this run could not be stored: {problem}", error=True)
        return exit_code

    def _in_time(self, directory: Path) -> int:
        self._options = self._choose()
        message = self._environment.line(CUT_OFF, error=True)
        with Deadline(self._options.deadline, message=message):
            return self._make(self._options, directory)

    def _make(self, options: ReportOptions, directory: Path) -> int:
        """Everything in its order: what was published is recorded, and what was recorded is mailed.

        What settings can get wrong is found before anything is published. The mails are in the spool before the run is
        recorded, so that one that is killed in between loses none. A history that can't be used costs nobody the
        report; it is reported at the end.
        """
        attach = self._environment.settings.mail.attach
        require((*options.target.formats, *((attach,) if options.mail and attach != "none" else ())))
        mailer = self._mailer(directory) if options.mail else None
        with self._environment.gateway() as gateway, self._history(directory, gateway.url, options.deadline) as history:
            report = self._read(gateway, options.criteria, history)
            self._recover(gateway, directory)
        self._report = report
        log.info("%d groups read", report.totals.group_count)
        mails = self._mails(report) if mailer else []
        with self._environment.progress("writing …") as progress:
            self._rendered = write(report, options.target, self._environment.width(), progress)
        log.info("written to %s", options.target.path or "standard output")
        if mailer:
            mailer.keep(mails)
        if self._recorded and self._problem is None:
            self._record(report, directory, options.deadline)
        sent = mailer is None or self._mail(mailer)
        if self._problem is not None:
            raise self._problem
        if not sent:
            return exit_status.UNSENT
        return exit_status.INCOMPLETE if report.totals.incomplete_group_count else exit_status.DONE

    def _history(self, directory: Path, url: str, deadline: int) -> History:
        """The history; a run with little time doesn't spend most of it waiting for another that has the file open."""
        keep_days = self._environment.settings.history.keep_days
        return History(directory, url, keep_days=keep_days, wait=min(WAIT, deadline / 4))

    def _read(self, gateway: Gateway, criteria: Criteria, history: History) -> Report:
        """Read the report, and what changed since the run before."""
        with self._environment.progress("asking the gateway …") as progress:
            report = build_report(gateway, criteria, progress, policy=self._environment.settings.policy)
        try:
            changes = history.compare(report)
        except HistoryError as error:
            self._problem = error
            return replace(report, notes=(*report.notes, _NOT_COMPARED))
        return look_up_cleared(gateway, replace(report, changes=changes))

    def _recover(self, gateway: Gateway, directory: Path) -> None:
        """Look up, by reading, what became of changes that were left open; the report doesn't depend on it."""
        if not self._recorded:
            return
        from evergreen_groups.changes import recover_by_reading

        try:
            ended = recover_by_reading(gateway, directory)
        except EvergreenGroupsError as error:
            log.warning("changes that were left open could not be looked up: %s", type(error).__name__)
        else:
            if ended:
                log.info("%d changes that were left open were looked up", len(ended))

    def _record(self, report: Report, directory: Path, deadline: int) -> None:
        try:
            with self._history(directory, report.gateway, deadline) as history:
                history.record(report)
            log.info("recorded in the history")
        except HistoryError as error:
            self._problem = error

    def _mailer(self, directory: Path) -> Mailer:
        from evergreen_groups.nightly.mailing import mailer_for

        return mailer_for(self._environment.settings.mail, directory)

    def _mails(self, report: Report) -> list[EmailMessage]:
        from evergreen_groups.nightly.mailing import messages

        return list(messages(report, self._environment.settings.mail))

    def _mail(self, mailer: Mailer) -> bool:
        """Send everyone their part; False where some of it could not be sent."""
        delivery = mailer.deliver()
        log.info("%d mails sent", delivery.sent)
        if delivery.dropped:
            log.error("%d mails were given up: they had waited too long", delivery.dropped)
        if delivery.queued:
            log.error("%d mails are queued for the next run: %s", delivery.queued, delivery.reason)
        return not delivery.queued and not delivery.dropped

    def _show(self) -> None:
        """Standard output, and what the reader must know beside it."""
        if self._rendered is not None:
            self._environment.write(self._rendered)
        if self._report and not self._environment.quiet:
            for note in self._report.notes:
                self._environment.emit(note)
