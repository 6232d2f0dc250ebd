"""One run of the report: read, compare, write, record, mail; one at a time, in time, and its outcome on record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.errors import ConfigurationError, DeadlineError, EvergreenGroupsError, StateError
from evergreen_groups.formats import require
from evergreen_groups.message import Message
from evergreen_groups.nightly.deadline import CUT_OFF, Deadline
from evergreen_groups.nightly.failure import remove_page
from evergreen_groups.nightly.made_report import MadeReport, remove_what_is_too_old, send
from evergreen_groups.nightly.options import RunPurpose
from evergreen_groups.nightly.readers import Readers, timezones_for
from evergreen_groups.nightly.reading import read_reports
from evergreen_groups.nightly.run_record import RunRecord
from evergreen_groups.nightly.run_wording import (
    AT_TERMINAL,
    NOT_COMPARED,
    already_made,
    not_written_either,
    noted,
    nothing_listed,
    summary,
)
from evergreen_groups.report import History, look_up_cleared
from evergreen_groups.state import run_status

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.mail import Delivery, Mailer
    from evergreen_groups.nightly.environment import ReportEnvironment
    from evergreen_groups.nightly.options import ReportJob, ReportOptions
    from evergreen_groups.state import State, Transactions

_UNUSABLE = (StateError, ConfigurationError)
"""What a database or a lock that can't be used, or that the settings name wrongly, is told by."""

log = logging.getLogger("evergreen_groups.report_run")


class ReportRun:
    """One run. ``choose`` says what it is to do, and is asked once the run is on record: it may find a bad setting.

    What it leaves behind depends on its ``purpose``; only a ``scheduled`` one is what monitoring looks at (one of the
    night is, unless it is said otherwise). ``healthcheck_url`` and ``deadline`` (seconds) are those of the command
    line: the former is called also where the settings are bad, the latter is how long another run is waited for.
    """

    def __init__(
        self,
        environment: ReportEnvironment,
        choose: Callable[[], ReportOptions],
        *,
        purpose: RunPurpose,
        scheduled: bool | None = None,
        healthcheck_url: str | None = None,
        deadline: int | None = None,
    ) -> None:
        self._environment = environment
        self._choose = choose
        self._recorded = purpose is RunPurpose.NIGHTLY
        self._looks = purpose is RunPurpose.LOOK
        self._scheduled = self._recorded if scheduled is None else scheduled
        self._deadline = deadline
        self._record = RunRecord(
            environment, healthcheck_url, scheduled=self._scheduled, is_recorded=self._recorded or self._scheduled
        )
        self._made: list[MadeReport] = []
        self._delivery: Delivery | None = None
        self._problem: EvergreenGroupsError | None = None
        self._state_fails = False

    def __call__(self) -> int:
        """Make the reports and give the exit status.

        Standard output comes last, when the lock is free again: somebody may read it page by page.
        """
        try:
            with ExitStack() as stack:
                state = self._opened(stack)
                status = self._in_time(state, state.database) if self._looks else self._leased(state)
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
        except EvergreenGroupsError as error:
            if self._recorded:
                self._record.lost(error)
            raise
        return state

    def _leased(self, state: State) -> int:
        """Make the reports while nobody else does.

        Where a shared database can't be reached, or a lock can't be opened, nobody knows whether somebody does: the
        reports are made all the same, nothing is mailed, and the run ends with that error.
        """
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(state.reporting(self._waiting_time()))
            except _UNUSABLE as error:
                self._without_state(error)
                return self._on_record(state, state.database, datetime.now(UTC))
            if self._is_made(lease):
                return self._send_what_waits(lease)
            return self._on_record(state, lease, lease.since)

    def _waiting_time(self) -> float:
        """How long (seconds) to wait for another run: where one is enough, this one makes it if that one fails."""
        report = self._environment.settings.report
        return float(self._deadline or report.deadline) if report.hours_between_runs else 0.0

    def _is_made(self, transactions: Transactions) -> bool:
        """Whether the report was written so lately, by any server, that none is wanted, unless by a manual run."""
        if not self._scheduled or not (hours := self._environment.settings.report.hours_between_runs):
            return False
        try:
            last = run_status.read(transactions)
        except _UNUSABLE as error:
            self._without_state(error)
            return False
        if last is None or not last.wrote_within(timedelta(hours=hours), transactions.now()):
            return False
        self._environment.emit(already_made(last.finished, hours))
        return True

    def _send_what_waits(self, transactions: Transactions) -> int:
        """Send the mails that the run which made the report couldn't send."""
        options = self._choose()
        if (mailer := self._mailer(options, transactions)) is None or not mailer.waiting:
            return exit_status.DONE
        with Deadline(options.deadline, message=self._environment.line(CUT_OFF, error=True)):
            return exit_status.DONE if self._send(mailer) else exit_status.UNSENT

    def _on_record(self, state: State, transactions: Transactions, started: datetime) -> int:
        """Make the reports, and write down how that went, however it ends."""
        self._record.started = started
        try:
            status = self._in_time(state, transactions)
        except BaseException as error:
            self._record.publish(transactions, exit_status.for_exception(error), error)
            raise
        return self._record.publish(transactions, status)

    def _in_time(self, state: State, transactions: Transactions) -> int:
        options = self._record.options = self._choose()
        message = self._environment.line(CUT_OFF, error=True)
        with Deadline(options.deadline, message=message):
            return self._make(options, state, transactions)

    def _make(self, options: ReportOptions, state: State, transactions: Transactions) -> int:
        """Everything in its order: what was published is recorded, and what was recorded is mailed.

        What settings can get wrong is found before anything is published. A database that can't be used costs nobody
        the report, nor does another report that can't be written; it is reported at the end.
        """
        for job in options.jobs:
            attach = job.mail.attach if job.mail else "none"
            require((*job.target.formats, *((attach,) if attach != "none" else ())))
        mailer = self._mailer(options, transactions)
        with self._environment.gateway() as gateway:
            made = self._read(gateway, options.jobs, transactions)
            self._recover(gateway, state)
        self._record.reports = [one.report for one in made]
        log.info("%d groups read", max(one.report.totals.group_count for one in made))
        for one in made:
            one.write_letters(self._environment.settings)
        self._write(made)
        if self._problem is not None and not self._made:
            raise self._problem
        incomplete = any(one.report.totals.incomplete_group_count for one in made)
        written = exit_status.INCOMPLETE if incomplete else exit_status.DONE
        sent = self._keep_and_send(transactions, mailer, written)
        if self._problem is not None:
            raise self._problem
        return written if sent else exit_status.UNSENT

    def _read(self, gateway: Gateway, jobs: Sequence[ReportJob], transactions: Transactions) -> list[MadeReport]:
        """Read the reports, and what changed in each since the run before."""
        with self._environment.progress(Message("asking the gateway …")) as progress:
            wanted = [job.criteria for job in jobs]
            reports = read_reports(
                gateway, wanted, progress, policy=self._environment.settings.policy, now=self._now(transactions)
            )
            timezones = timezones_for(gateway, jobs, self._environment.settings.language)
        made = []
        for job, report in zip(jobs, reports, strict=True):
            history, changes = None, None
            if not self._state_fails:
                try:
                    history = History(transactions, gateway.url, job.name)
                    changes = history.compare(report)
                except _UNUSABLE as error:
                    self._without_state(error)
            if changes is None:
                report = replace(report, notes=(*report.notes, NOT_COMPARED))  # noqa: PLW2901
            else:
                report = look_up_cleared(gateway, replace(report, changes=changes))  # noqa: PLW2901
                if not report.groups and (before := len(changes.cleared) + len(changes.hidden)):
                    report = replace(report, notes=(*report.notes, nothing_listed(before)))  # noqa: PLW2901
            readers = Readers(self._environment.settings.language, report.org_units, timezones)
            made.append(MadeReport(job, replace(report, name=job.name), history, readers))
        return made

    def _recover(self, gateway: Gateway, state: State) -> None:
        """Look up, by reading, what became of changes that were left open; the report doesn't depend on it."""
        if self._looks or self._state_fails:
            return
        from evergreen_groups.changes import recover_by_reading

        try:
            ended = recover_by_reading(gateway, state)
        except EvergreenGroupsError as error:
            log.warning("changes that were left open could not be looked up: %s", type(error).__name__)
        else:
            if ended:
                log.info("%d changes that were left open were looked up", len(ended))

    def _write(self, made: Sequence[MadeReport]) -> None:
        """Write each report to its target; one that can't be written keeps none of the others from theirs."""
        for one in made:
            try:
                with self._environment.progress(Message("writing …")) as progress:
                    one.write(self._environment.width(), progress, self._environment.settings)
            except EvergreenGroupsError as error:
                if isinstance(error, DeadlineError):
                    raise
                if self._problem is not None:  # the run ends with the first of them
                    self._environment.emit(not_written_either(one.job.name, error), error=True)
                self._problem = self._problem or error
            else:
                self._made.append(one)
                if self._recorded or not self._looks:
                    remove_page(one.job.target)
                log.info("written to %s", one.job.target.path or "standard output")

    def _keep_and_send(self, transactions: Transactions, mailer: Mailer | None, written: int) -> bool:
        """Put the mails into the outbox, record the run, and send them; False where some could not be sent.

        ``written`` is the exit status if everything is sent.
        """
        if self._state_fails:
            return False
        try:
            self._keep(transactions, mailer, written)
            if self._recorded and self._made:
                remove_what_is_too_old(self._environment.settings, transactions, transactions.now())
            return mailer is None or self._send(mailer)
        except _UNUSABLE as error:
            self._without_state(error)
            return False

    def _send(self, mailer: Mailer) -> bool:
        """Send the mails; False where some could not be sent."""
        self._delivery = send(mailer)
        return self._delivery.is_complete

    def _keep(self, transactions: Transactions, mailer: Mailer | None, written: int) -> None:
        """Keep mails, history and status in one transaction.

        If the run is killed, the next one either makes the reports from scratch or finds all of this.
        """
        letters = [letter for one in self._made for letter in one.letters]
        if not (letters or (self._recorded and self._made)):
            return
        with transactions.writing() as connection:
            if mailer:
                mailer.keep(letters, connection)
            for one in self._made:
                if self._recorded and one.history is not None:
                    one.history.record(one.report, connection)
            if not self._looks:
                self._record.write(transactions, exit_status.UNSENT if letters else written, self._problem, connection)
        self._record.is_stored = self._problem is None
        if self._recorded:
            log.info("recorded in the history")

    def _now(self, transactions: Transactions) -> datetime:
        """The time; this machine's if the database can't be used."""
        if not self._state_fails:
            try:
                return transactions.now()
            except _UNUSABLE as error:
                self._without_state(error)
        return datetime.now(UTC)

    def _without_state(self, error: EvergreenGroupsError) -> None:
        """Go on without the database, and end with its error."""
        self._problem, self._state_fails = self._problem or error, True

    def _mailer(self, options: ReportOptions, transactions: Transactions) -> Mailer | None:
        """The mailer, where anything is to be mailed."""
        letters = [job.mail for job in options.jobs if job.mail is not None]
        if not letters:
            return None
        from evergreen_groups.nightly.mailing import mailer_for

        return mailer_for(self._environment.settings.mail, letters, transactions)

    def _show(self) -> None:
        """Standard output, and what the reader must know beside it."""
        for one in self._made:
            if one.rendered is not None:
                self._environment.write(one.rendered)
        if self._environment.quiet:
            return
        for report in self._record.reports:
            for note in report.notes:
                self._environment.emit(noted(report.name, note))
        if self._made and not (self._recorded or self._looks):
            self._environment.emit(AT_TERMINAL)
        if done := summary(self._made, self._delivery):
            self._environment.summarise(done)
