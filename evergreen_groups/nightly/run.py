"""One run of the report: read, compare, write, record, mail; one at a time, in time, and its outcome on record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError, StateError
from evergreen_groups.formats import require
from evergreen_groups.nightly.deadline import CUT_OFF, Deadline
from evergreen_groups.nightly.output import Rendered, write
from evergreen_groups.render import StaffClient
from evergreen_groups.report import build_report, look_up_cleared
from evergreen_groups.state import RunOutcome, RunStatus, run_status

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.mail import Mailer
    from evergreen_groups.nightly.environment import ReportEnvironment
    from evergreen_groups.nightly.options import ReportOptions
    from evergreen_groups.report import Criteria, History, Report
    from evergreen_groups.state import State, Transactions

_UNUSABLE = (StateError, ConfigurationError)
"""What a database or a lock that can't be used, or that the settings name wrongly, is told by."""
_NOT_COMPARED = "What changed since the last run isn't known: the history of the runs could not be used."

log = logging.getLogger("evergreen_groups.report_run")


class ReportRun:
    """One run. ``choose`` says what it is to do, and is asked once the run is on record: it may find a bad setting.

    A run that is ``recorded`` has the lease, keeps its figures in the history, writes down how it ended and calls
    the healthcheck. Another one only looks. ``healthcheck_url`` and ``deadline`` (seconds) are those of the command
    line: the former is called also where the settings are bad, the latter is how long another run is waited for.
    """

    def __init__(
        self,
        environment: ReportEnvironment,
        choose: Callable[[], ReportOptions],
        *,
        recorded: bool,
        healthcheck_url: str | None = None,
        deadline: int | None = None,
    ) -> None:
        self._environment = environment
        self._choose = choose
        self._recorded = recorded
        self._healthcheck_url = healthcheck_url
        self._deadline = deadline
        self._options: ReportOptions | None = None
        self._report: Report | None = None
        self._history: History | None = None
        self._rendered: Rendered | None = None
        self._problem: StateError | ConfigurationError | None = None

    def __call__(self) -> int:
        """Make the report and give the exit status.

        Standard output comes last, when the lock is free again: somebody may read it page by page.
        """
        try:
            with ExitStack() as stack:
                state = self._opened(stack)
                status = self._leased(state) if self._recorded else self._in_time(state, state.database)
        except EvergreenGroupsError:
            self._show()  # what there is
            raise
        self._show()
        return status

    def _opened(self, stack: ExitStack) -> State:
        """Where the run is recorded. Settings that are bad say nowhere; somebody is told all the same."""
        try:
            state = stack.enter_context(self._environment.state())
            state.load()
        except EvergreenGroupsError:
            if self._recorded:
                self._call_healthcheck(well=False)
            raise
        return state

    def _leased(self, state: State) -> int:
        """Make the report while nobody else does.

        Where a shared database can't be reached, or a lock can't be opened, nobody knows whether somebody does: the
        report is made all the same, nothing is mailed, and the run ends with that error.
        """
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(state.reporting(self._waiting_time()))
            except _UNUSABLE as error:
                self._problem = error
                return self._on_record(state, state.database, datetime.now(UTC))
            if self._is_made(lease):
                return self._send_what_waits(lease)
            return self._on_record(state, lease, lease.since)

    def _waiting_time(self) -> float:
        """How long (seconds) to wait for another run: where one is enough, this one makes it if that one fails."""
        report = self._environment.settings.report
        return float(self._deadline or report.deadline) if report.hours_between_runs else 0.0

    def _is_made(self, transactions: Transactions) -> bool:
        """Whether the report was written so lately, by whatever server, that none is wanted."""
        if not (hours := self._environment.settings.report.hours_between_runs):
            return False
        try:
            last = run_status.read(transactions)
        except _UNUSABLE as error:
            self._problem = error
            return False
        if last is None or not last.wrote_within(timedelta(hours=hours)):
            return False
        self._environment.emit(
            f"nothing to do: the report was made at {last.finished.astimezone():%Y-%m-%d %H:%M}, and "
            f"{hours} hours are to lie between two ([report] hours_between_runs)"
        )
        return True

    def _send_what_waits(self, transactions: Transactions) -> int:
        """Send the mails that the run which made the report couldn't send."""
        options = self._choose()
        if not options.mail:
            return exit_status.DONE
        mailer = self._mailer(transactions)
        if not mailer.waiting:
            return exit_status.DONE
        with Deadline(options.deadline, message=self._environment.line(CUT_OFF, error=True)):
            return exit_status.DONE if self._mail(mailer) else exit_status.UNSENT

    def _on_record(self, state: State, transactions: Transactions, started: datetime) -> int:
        """Make the report, and write down how that went, however it ends."""
        try:
            status = self._in_time(state, transactions)
        except BaseException as error:
            self._publish_status(transactions, started, exit_status.for_exception(error), type(error).__name__)
            raise
        return self._publish_status(transactions, started, status)

    def _publish_status(
        self, transactions: Transactions, started: datetime, exit_code: int, error: str | None = None
    ) -> int:
        """Write the status and call the healthcheck; give the exit status, which a full disk makes a failure."""
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
            run_status.write(transactions, status)
        except EvergreenGroupsError as refusal:
            problem, exit_code = refusal, exit_code or exit_status.FAILED
        self._call_healthcheck(well=exit_code == exit_status.DONE)
        if problem is not None:
            self._environment.emit(f"the status of this run could not be stored: {problem}", error=True)
        return exit_code

    def _call_healthcheck(self, *, well: bool) -> None:
        if url := self._options.healthcheck_url if self._options else self._healthcheck_url:
            from evergreen_groups.nightly import healthcheck

            healthcheck.call(url, well=well)

    def _in_time(self, state: State, transactions: Transactions) -> int:
        self._options = self._choose()
        message = self._environment.line(CUT_OFF, error=True)
        with Deadline(self._options.deadline, message=message):
            return self._make(self._options, state, transactions)

    def _make(self, options: ReportOptions, state: State, transactions: Transactions) -> int:
        """Everything in its order: what was published is recorded, and what was recorded is mailed.

        What settings can get wrong is found before anything is published. The mails are in the outbox before the run
        is recorded, so that one that is killed in between loses none. A database that can't be used costs nobody the
        report; it is reported at the end.
        """
        attach = self._environment.settings.mail.attach
        require((*options.target.formats, *((attach,) if options.mail and attach != "none" else ())))
        mailer = self._mailer(transactions) if options.mail else None
        with self._environment.gateway() as gateway:
            report = self._read(gateway, options.criteria, transactions)
            self._recover(gateway, state)
        self._report = report
        log.info("%d groups read", report.totals.group_count)
        mails = self._mails(report) if mailer else []
        with self._environment.progress("writing …") as progress:
            client = self._staff_client(report)
            self._rendered = write(report, options.target, self._environment.width(), progress, client)
        log.info("written to %s", options.target.path or "standard output")
        sent = self._keep_and_send(report, transactions, mailer, mails)
        if self._problem is not None:
            raise self._problem
        if not sent:
            return exit_status.UNSENT
        return exit_status.INCOMPLETE if report.totals.incomplete_group_count else exit_status.DONE

    def _read(self, gateway: Gateway, criteria: Criteria, transactions: Transactions) -> Report:
        """Read the report, and what changed since the run before."""
        with self._environment.progress("asking the gateway …") as progress:
            report = build_report(gateway, criteria, progress, policy=self._environment.settings.policy)
        try:
            if self._problem is not None:
                raise self._problem
            from evergreen_groups.report import History

            self._history = History(transactions, gateway.url)
            changes = self._history.compare(report)
        except _UNUSABLE as error:
            self._problem = error
            return replace(report, notes=(*report.notes, _NOT_COMPARED))
        return look_up_cleared(gateway, replace(report, changes=changes))

    def _recover(self, gateway: Gateway, state: State) -> None:
        """Look up, by reading, what became of changes that were left open; the report doesn't depend on it."""
        if not self._recorded or self._problem is not None:
            return
        from evergreen_groups.changes import recover_by_reading

        try:
            ended = recover_by_reading(gateway, state)
        except EvergreenGroupsError as error:
            log.warning("changes that were left open could not be looked up: %s", type(error).__name__)
        else:
            if ended:
                log.info("%d changes that were left open were looked up", len(ended))

    def _keep_and_send(
        self, report: Report, transactions: Transactions, mailer: Mailer | None, mails: list[EmailMessage]
    ) -> bool:
        """Put the mails into the outbox, record the run, and send them; False where some could not be sent."""
        if self._problem is not None:
            return False
        try:
            if mailer:
                mailer.keep(mails)
            if self._recorded and self._history:
                self._record(report, transactions, self._history)
            return mailer is None or self._mail(mailer)
        except _UNUSABLE as error:
            self._problem = error
            return False

    def _record(self, report: Report, transactions: Transactions, history: History) -> None:
        """Write down what the report found, and remove what is too old."""
        from evergreen_groups.state import prune

        history.record(report)
        log.info("recorded in the history")
        settings = self._environment.settings
        days = {
            "history": settings.history.keep_days,
            "journal": settings.journal.keep_days,
            "events": settings.events.keep_days,
        }
        for name, rows in prune(transactions, days, report.generated_at).items():
            if rows:
                log.info("%d rows of the %s were too old and are removed", rows, name)

    def _mailer(self, transactions: Transactions) -> Mailer:
        from evergreen_groups.nightly.mailing import mailer_for

        return mailer_for(self._environment.settings.mail, transactions)

    def _mails(self, report: Report) -> list[EmailMessage]:
        from evergreen_groups.nightly.mailing import messages

        settings = self._environment.settings
        return list(messages(report, settings.mail, client=self._staff_client(report), dialect=settings.report.csv))

    def _staff_client(self, report: Report) -> StaffClient:
        """The client into which names of the report lead."""
        return StaffClient.of(self._environment.settings, report.gateway)

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
