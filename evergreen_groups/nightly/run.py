"""A report run: reads, compares, writes, records and mails, within a deadline and never two runs at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import quote

from evergreen_groups import exit_status
from evergreen_groups.errors import ConfigurationError, DeadlineError, EvergreenGroupsError, StateError
from evergreen_groups.formats import PAGE, require
from evergreen_groups.message import Message, own_pip
from evergreen_groups.nightly.deadline import CUT_OFF, Deadline
from evergreen_groups.nightly.jobs import RunPurpose
from evergreen_groups.nightly.output import (
    Readers,
    Rendered,
    WrittenReport,
    remove_failure_page,
    timezones_for,
    write,
    write_failure_page,
)
from evergreen_groups.render import SERVICE, StaffClient
from evergreen_groups.report import History, Run, incomplete_since, look_up_cleared, read_reports
from evergreen_groups.state import RunOutcome, RunStatus, prune, read_run_status, write_run_status

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from evergreen_groups.follow_up import FollowUp, FollowUpState
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.mail import Delivery, Mailer
    from evergreen_groups.message import Progress
    from evergreen_groups.nightly.jobs import ReportJob, ReportOptions, Unpublished
    from evergreen_groups.render.report import WritingOptions
    from evergreen_groups.report import Report
    from evergreen_groups.settings import Settings
    from evergreen_groups.state import State, Transactions


@dataclass(slots=True)
class PreparedReport:
    """A report that was read, with its job, readers and former runs.

    ``follow_ups`` are those of the groups that have entries, by group number. ``output`` is what was written, or what
    is to be written to standard output.
    """

    job: ReportJob
    report: Report
    history: History
    readers: Readers
    follow_ups: Mapping[int, FollowUpState] = field(default_factory=dict)
    letters: list[EmailMessage] = field(default_factory=list)
    output: Rendered | WrittenReport | None = None


NOT_COMPARED = Message("Changes since the last run aren't known: the history can't be read.")
AT_TERMINAL = Message(
    "This run isn't recorded, so tonight's report won't be compared with it. To record a run, use --history."
)


def not_published(unpublished: Unpublished) -> Message:
    """Say in one line which output was left alone, and why."""
    return Message(
        "This run isn't recorded, and {path} isn't replaced, because the run differs from the configuration "
        "({settings}). To replace it, use --publish.",
        values={"path": unpublished.path, "settings": ", ".join(unpublished.differences)},
    )


def summary(made: Sequence[PreparedReport], delivery: Delivery | None) -> Message | None:
    """Summarize in one line what was written and mailed; None if nothing was."""
    parts = []
    for one in made:
        if not isinstance(written := one.output, WrittenReport):
            continue
        groups = {"count": one.report.totals.group_count}
        found = [Message("{count} group", plural="{count} groups", values=groups)]
        if written.library_count is not None:
            libraries, files = {"count": written.library_count}, {"count": written.file_count}
            found.append(Message("{count} library", plural="{count} libraries", values=libraries))
            found.append(Message("{count} file", plural="{count} files", values=files))
        parts.append(Message("written: {path} ({content})", values={"path": written.path, "content": found}))
    if delivery is not None:
        sums = {"sent": delivery.sent, "queued": delivery.queued, "dropped": delivery.dropped}
        parts.append(Message("mails sent: {sent:,}, queued: {queued:,}, given up: {dropped:,}", values=sums))
    return Message("{parts}", values={"parts": tuple(parts)}) if parts else None


log = logging.getLogger("evergreen_groups.report_run")
Value = TypeVar("Value")


_HEALTHCHECK_SECONDS = 15.0
_healthcheck_log = logging.getLogger("evergreen_groups.healthcheck")


def call_url(url: str) -> None:
    """Get the URL of a monitoring service such as healthchecks.io. Failures are only logged.

    The URL is never logged, because anyone who knows it can call it.
    """
    import requests

    seconds = _HEALTHCHECK_SECONDS
    try:
        with (
            Deadline(seconds),
            # The auth does nothing. It keeps requests from using ~/.netrc.
            requests.get(url, timeout=seconds, stream=True, auth=lambda request: request) as response,
        ):
            status = response.status_code
    except Exception as error:  # requests lets some exceptions of http.client through, such as ValueError on a redirect
        _healthcheck_log.warning("the healthcheck could not be called (%s)", type(error).__name__)
        return
    if status >= 400:
        _healthcheck_log.warning("the healthcheck was refused (HTTP status %d)", status)


def note_sent(transactions: Transactions) -> RunStatus | None:
    """Note that the mails of the last scheduled run have been sent, if they waited. Return the corrected status."""
    last = read_run_status(transactions)
    if last is None or last.exit_code != exit_status.UNSENT:
        return None
    code = exit_status.INCOMPLETE if incomplete_since(transactions, last.started) else exit_status.DONE
    sent = replace(last, exit_code=code, outcome=RunOutcome.PARTIAL if code else RunOutcome.DONE)
    write_run_status(transactions, sent)
    return sent


class ReportRun:
    """One run of the report. ``choose`` returns what to do; it is called late, so that a bad setting is recorded.

    The ``purpose`` determines what the run leaves behind. Monitoring watches only ``scheduled`` runs, by default the
    nightly ones; a manual run has a separate status and calls only a health check named on the command line.
    ``healthcheck_url`` and ``deadline`` (seconds) come from the command line: the former is called even if the settings
    are invalid, the latter is how long to wait for another run.
    """

    def __init__(
        self,
        environment: _Environment,
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
        self._is_preview = purpose is RunPurpose.PREVIEW
        self._scheduled = self._recorded if scheduled is None else scheduled
        self._healthcheck_url = healthcheck_url
        self._deadline = deadline
        self._started = datetime.now(UTC)
        self._options: ReportOptions | None = None  # set once the settings have been read
        self._read: list[PreparedReport] = []
        self._made: list[PreparedReport] = []
        self._delivery: Delivery | None = None
        self._problem: EvergreenGroupsError | None = None
        self._state_fails = False
        # Whether mails, history and status are stored, so that no later run makes these reports again.
        self._is_stored = False
        self._finished: list[Report] = []  # the reports that were written and recorded

    def __call__(self) -> int:
        """Make the reports and return the exit status. Record the outcome in any case, except of a preview.

        Standard output is written last, after the lease is released, because a pager may hold it for long.
        """
        try:
            with ExitStack() as stack:
                state = self._open_state(stack)
                # Called last: after the status is stored, and after the lease and the deadline have ended.
                stack.callback(lambda: state.plugins.notify("report_finished", *self._finished))
                transactions = state.database if self._is_preview else self._take_lease(state, stack)
                if self._is_already_made(transactions):
                    status = self._send_queued(transactions)
                else:
                    try:
                        status = self._make(state, transactions)
                    except BaseException as error:
                        self._publish_status(transactions, exit_status.for_exception(error), error)
                        raise
                    status = self._publish_status(transactions, status)
        except EvergreenGroupsError:
            self._show()  # whatever was made before the error
            raise
        self._show()
        return status

    def _open_state(self, stack: ExitStack) -> State:
        # If the settings are invalid, there is no place to record the run, but monitoring is told anyway.
        try:
            state = stack.enter_context(self._environment.state())
            state.load()
        except EvergreenGroupsError as error:
            if self._recorded:
                self._call_healthcheck(succeeded=False)
                self._write_textfile(self._status(None, exit_status.for_exception(error), error), None)
            raise
        return state

    def _take_lease(self, state: State, stack: ExitStack) -> Transactions:
        """Take the lease that keeps other runs out.

        If the shared database can't be reached or the lease can't be taken, another run may be active. The reports are
        then made, nothing is mailed, and the run ends with the error.
        """
        report = self._environment.settings.report
        # If the other run fails while this one waits, this one makes the report instead.
        timeout = float(self._deadline or report.deadline) if report.hours_between_runs else 0.0
        lease = self._from_state(lambda: stack.enter_context(state.report_lease(timeout)), None)
        if lease is None:
            return state.database
        self._started = lease.since
        return lease

    def _is_already_made(self, transactions: Transactions) -> bool:
        """Return whether any server has made the report so recently that a scheduled run can skip it."""
        hours = self._environment.settings.report.hours_between_runs
        last = self._from_state(partial(read_run_status, transactions), None) if hours and self._scheduled else None
        if last is None or not last.wrote_within(timedelta(hours=hours), transactions.now()):
            return False
        self._environment.emit(
            Message(
                "nothing to do: the report was made at {moment}, less than {count} hour ago "
                "([report] hours_between_runs)",
                plural="nothing to do: the report was made at {moment}, less than {count} hours ago "
                "([report] hours_between_runs)",
                values={"moment": last.finished, "count": hours},
            )
        )
        return True

    def _send_queued(self, transactions: Transactions) -> int:
        options = self._choose()
        if (mailer := self._mailer(options, transactions)) is None or not len(mailer.outbox):
            return exit_status.DONE
        with Deadline(options.deadline, message=self._environment.line(CUT_OFF, error=True)):
            return exit_status.DONE if self._send(mailer, transactions) else exit_status.UNSENT

    def _make(self, state: State, transactions: Transactions) -> int:
        """Make everything in order: publish, then record what was published, then mail what was recorded.

        Settings that could fail are checked before publishing. An unusable database, or one report that can't be
        written, doesn't keep the other reports from being made; the error is raised at the end.
        """
        options = self._options = self._choose()
        with Deadline(options.deadline, message=self._environment.line(CUT_OFF, error=True)):
            # Find out now, not after a long reading, whether a format's dependency is missing.
            for job in options.jobs:
                attach = job.mail.attach if job.mail else "none"
                require((*job.target.formats, *((attach,) if attach != "none" else ())))
            mailer = self._mailer(options, transactions)
            settings = self._environment.settings
            with self._environment.gateway() as gateway:
                with self._environment.progress(Message("asking the gateway …")) as progress:
                    wanted = [job.criteria for job in options.jobs]
                    now = self._from_state(transactions.now, datetime.now(UTC))
                    reports = read_reports(gateway, wanted, progress, policy=settings.policy, now=now)
                    timezones = timezones_for(gateway, options.jobs, settings.language)
                read = []
                for job, report in zip(options.jobs, reports, strict=True):
                    readers = Readers(settings.language, report.org_units, timezones)
                    read.append(PreparedReport(job, *self._compare(gateway, report, job.name, transactions), readers))
                    read[-1].follow_ups = self._read_follow_ups(read[-1], transactions)
                self._recover(gateway, state)
            self._read = read
            log.info("%d groups read", max(one.report.totals.group_count for one in self._read))
            self._write_letters()
            self._write()
            if self._problem is not None and not self._made:
                raise self._problem
            incomplete = any(one.report.totals.incomplete_group_count for one in self._read)
            written = exit_status.INCOMPLETE if incomplete else exit_status.DONE
            sent = self._from_state(lambda: self._store_and_send(transactions, mailer, written), False)
            if self._problem is not None:
                raise self._problem
            return written if sent else exit_status.UNSENT

    def _compare(
        self, gateway: Gateway, report: Report, name: str, transactions: Transactions
    ) -> tuple[Report, History]:
        """Compare a report with its previous run. Return it with its name, and the history."""
        history = History(transactions, gateway.url, name)
        changes = self._from_state(lambda: history.compare(report), None)
        report = replace(report, name=name)
        if changes is None:
            return replace(report, notes=(*report.notes, NOT_COMPARED)), history
        report = look_up_cleared(gateway, replace(report, changes=changes))
        # Probably a problem with the data or the permissions rather than a sudden absence of debts.
        if not report.groups and (before := len(changes.cleared) + len(changes.hidden)):
            note = Message(
                "No groups are listed, but the previous report listed {count} group. If this is unexpected, "
                "run the report again.",
                plural="No groups are listed, but the previous report listed {count} groups. If this is "
                "unexpected, run the report again.",
                values={"count": before},
            )
            report = replace(report, notes=(*report.notes, note))
        return report, history

    def _read_follow_ups(self, one: PreparedReport, transactions: Transactions) -> Mapping[int, FollowUpState]:
        """Return what was agreed with groups of a report that is written as a page."""
        target = one.job.target
        if target.path is None or PAGE not in target.formats:
            return {}
        from evergreen_groups.follow_up import FollowUps, today_at

        settings, report = self._environment.settings, one.report
        configured = settings.language.language().timezone
        today = today_at(report.generated_at, configured, one.readers.timezones, report.org_units)
        entries = FollowUps(transactions, report.gateway)
        found: Mapping[int, FollowUp] = self._from_state(lambda: entries.of_run(lambda: Run.of(report)), {})
        again_after = settings.follow_up.again_after
        if not target.split:
            return {number: follow_up.state(today, again_after) for number, follow_up in found.items()}
        # The files of several libraries show a group: only with entries that the readers of each file may see.
        shown = {
            group.number: found[group.number].for_libraries((one.id, one.library) for one in group.members)
            for group in report.groups
            if group.number in found
        }
        return {number: follow_up.state(today, again_after) for number, follow_up in shown.items()}

    def _recover(self, gateway: Gateway, state: State) -> None:
        """Look up the outcome of unfinished changes, without sending any. The report doesn't depend on this."""
        if self._is_preview or self._state_fails:
            return
        from evergreen_groups import changes

        try:
            # Nearly always nothing is open: then the modules that send changes aren't loaded.
            is_open = state.database.is_there and changes.Journal(state.database).open_steps(gateway.url)
            ended = changes.recover_left_open(gateway, state) if is_open else []
        except EvergreenGroupsError as error:
            log.warning("changes that were left open could not be looked up: %s", type(error).__name__)
        else:
            if ended:
                log.info("%d changes that were left open were looked up", len(ended))

    def _write_letters(self) -> None:
        """Render the mails of the reports that have recipients."""
        for one in self._read:
            if one.job.mail is None:
                continue
            from evergreen_groups.nightly.mailing import messages

            mail, target = one.job.mail, one.job.target
            origin = self._environment.settings.serve.origin
            if mail.link is None and origin is not None and target.path is not None and PAGE in target.formats:
                named = f"/named/{quote(one.job.name, safe='')}" if one.job.name else ""
                library = "/{library}" if target.split else ""
                mail = replace(mail, link=f"{origin}{SERVICE}/reports{named}/latest{library}")
            client = StaffClient.of(self._environment.settings, one.report.gateway)
            options: WritingOptions = {"client": client, "dialect": target.dialect}
            with_name = not one.job.own_subject
            one.letters = list(messages(one.report, mail, one.readers, with_name=with_name, **options))

    def _write(self) -> None:
        """Write each report to its target. A failure doesn't keep the others from being written."""
        for one in self._read:
            try:
                with self._environment.progress(Message("writing …")) as progress:
                    if one.job.target.formats:  # not only mailed
                        client = StaffClient.of(self._environment.settings, one.report.gateway)
                        width = self._environment.width()
                        one.output = write(
                            one.report,
                            one.job.target,
                            width,
                            progress,
                            client,
                            readers=one.readers,
                            follow_ups=one.follow_ups,
                        )
            except EvergreenGroupsError as error:
                if isinstance(error, DeadlineError):
                    raise
                if self._problem is not None:  # only the first error ends the run, so print the others
                    text = Message("the report couldn't be written either: {problem}", values={"problem": error})
                    if one.job.name:
                        text = Message("{label}: {value}", values={"label": one.job.name, "value": text})
                    self._environment.emit(text, error=True)
                self._problem = self._problem or error
            else:
                self._made.append(one)
                if self._recorded or not self._is_preview:
                    remove_failure_page(one.job.target)
                log.info("written to %s", one.job.target.path or "standard output")

    def _store_and_send(self, transactions: Transactions, mailer: Mailer | None, written: int) -> bool:
        """Queue the mails, record the run, and send the mails. Return False if some couldn't be sent.

        ``written`` is the exit status if everything is sent.
        """
        self._store(transactions, mailer, written)
        if self._recorded and self._made:
            settings = self._environment.settings
            days = {
                "history": settings.history.keep_days,
                "journal": settings.journal.keep_days,
                "events": settings.events.keep_days,
                "follow-ups": settings.follow_up.keep_days,
            }
            for name, rows in prune(transactions, days, transactions.now()).items():
                if rows:
                    log.info("%d rows of the %s were too old and are removed", rows, name)
        return mailer is None or self._send(mailer, transactions)

    def _send(self, mailer: Mailer, transactions: Transactions) -> bool:
        """Send the queued mails, also those of other runs. Return False if some couldn't be sent."""
        self._delivery = delivery = mailer.deliver()
        log.info("%d mails sent", delivery.sent)
        if delivery.dropped:
            log.error("%d mails were given up: they had waited too long", delivery.dropped)
        if delivery.queued:
            log.error("%d mails are queued for the next run: %s", delivery.queued, delivery.reason)
        is_in_own_status = self._scheduled and self._made
        if delivery.is_complete and not is_in_own_status and (status := note_sent(transactions)):
            self._write_textfile(status, transactions)
        if held := mailer.outbox.held().count:
            log.error("%d mails of a restored backup are held: run `evergreen-groups state mails`", held)
        return delivery.is_complete

    def _store(self, transactions: Transactions, mailer: Mailer | None, written: int) -> None:
        """Store mails, history and status in one transaction.

        If the run is killed, the next one finds either all of this or none and starts over.
        """
        letters = [letter for one in self._made for letter in one.letters]
        if not (letters or (self._recorded and self._made)):
            return
        with transactions.writing() as connection:
            if mailer:
                mailer.outbox.add(letters, connection)
            for one in self._made:
                if self._recorded:
                    one.history.record(one.report, connection)
            if self._recorded and self._made:
                from evergreen_groups.follow_up import note_listed

                runs, url = (Run.of(one.report) for one in self._made), self._made[0].report.gateway
                note_listed(connection, url, runs, all_reports=len(self._made) == len(self._read))
            if not self._is_preview:  # the status that applies if the run gets no further
                status = self._status(transactions, exit_status.UNSENT if letters else written, self._problem)
                write_run_status(transactions, status, manual=not self._scheduled, within=connection)
        self._is_stored = self._problem is None
        if self._recorded:
            self._finished = [one.report for one in self._made]
            log.info("recorded in the history")

    def _from_state(self, read: Callable[[], Value], otherwise: Value) -> Value:
        """Return what ``read`` returns, or ``otherwise`` if the database can't be used, now or earlier in this run.

        The run then goes on without it, and ends with the first error.
        """
        if not self._state_fails:
            try:
                return read()
            except (StateError, ConfigurationError) as error:  # it or its lock fails, or is configured wrongly
                self._problem, self._state_fails = self._problem or error, True
        return otherwise

    def _mailer(self, options: ReportOptions, transactions: Transactions) -> Mailer | None:
        letters = [job.mail for job in options.jobs if job.mail is not None]
        if not letters:
            return None
        from evergreen_groups.nightly.mailing import mailer_for

        return mailer_for(self._environment.settings.mail, letters, transactions)

    def _show(self) -> None:
        """Write the reports to standard output, and notes and the summary to standard error."""
        for one in self._made:
            if isinstance(one.output, Rendered):
                self._environment.write(one.output)
        if self._environment.quiet:
            return
        for one in self._read:
            for note in one.report.notes:
                named = Message("{label}: {value}", values={"label": one.job.name, "value": note})
                self._environment.emit(named if one.job.name else note)
        if self._made and not (self._recorded or self._is_preview):
            unpublished = self._options.unpublished if self._options else None
            self._environment.emit(AT_TERMINAL if unpublished is None else not_published(unpublished))
        if done := summary(self._made, self._delivery):
            self._environment.summarise(done)

    def _publish_status(self, transactions: Transactions, exit_code: int, error: BaseException | None = None) -> int:
        """Store the final status and tell monitoring. Return the exit status; a failure to store changes it.

        If a run that others wait for fails, leave a page for the readers of its reports.
        """
        if self._is_preview:
            return exit_code
        status = self._status(transactions, exit_code, error)
        awaited = self._recorded or self._scheduled
        problem = None
        try:
            write_run_status(transactions, status, manual=not self._scheduled)
        except EvergreenGroupsError as refusal:
            if awaited:
                problem, exit_code = refusal, exit_code or exit_status.FAILED
            log.info("the status of this run could not be stored: %s", type(refusal).__name__)
        if status.outcome is RunOutcome.FAILED and awaited:
            for job in self._options.jobs if self._options else ():
                write_failure_page(job.target, status, error, Readers(self._environment.settings.language).of_all)
        self._call_healthcheck(succeeded=exit_code == exit_status.DONE)
        if problem is not None:
            text = Message("the status of this run couldn't be stored: {problem}", values={"problem": problem})
            self._environment.emit(text, error=True)
        self._write_textfile(status, transactions)
        return exit_code

    def _write_textfile(self, status: RunStatus, transactions: Transactions | None) -> None:
        """Write the metrics file if one is configured. Failures are only logged."""
        with suppress(ConfigurationError):  # invalid settings have already ended the run, and name no file
            if (path := self._environment.settings.metrics.textfile) is None:
                return
            try:
                from evergreen_groups.metrics import write_textfile

                write_textfile(path, status, transactions)
            except ModuleNotFoundError:
                log.warning("the metrics are not written: %s install 'evergreen-groups[metrics]'", own_pip())
            except EvergreenGroupsError as error:
                log.warning("the metrics are not written: %s", error)

    def _call_healthcheck(self, *, succeeded: bool) -> None:
        url = self._options.healthcheck_url if self._options else self._healthcheck_url
        if url and (self._scheduled or self._healthcheck_url):
            call_url(url if succeeded else f"{url}/fail")

    def _status(self, transactions: Transactions | None, exit_code: int, error: BaseException | None) -> RunStatus:
        finished = datetime.now(UTC)
        if transactions is not None:
            with suppress(EvergreenGroupsError):  # then the status can't be written either
                finished = transactions.now()
        failed = error is not None and not self._is_stored
        # A group in several reports counts once.
        groups = {group.number: group for one in self._read for group in one.report.groups}
        return RunStatus(
            outcome=RunOutcome.FAILED if failed else RunOutcome.PARTIAL if exit_code else RunOutcome.DONE,
            started=self._started,
            finished=finished,
            exit_code=exit_code,
            error=type(error).__name__ if error else None,
            groups=len(groups) if self._read else None,
            members=sum(group.member_count for group in groups.values()) if self._read else None,
        )


class _Environment(Protocol):
    """What a run needs from the command line, which is in a room above: see the class ``Invocation`` there."""

    @property
    def settings(self) -> Settings: ...
    @property
    def quiet(self) -> bool: ...
    def gateway(self) -> AbstractContextManager[Gateway]: ...
    def state(self) -> AbstractContextManager[State]: ...
    def progress(self, doing: str) -> AbstractContextManager[Progress]: ...
    def width(self) -> int: ...
    def write(self, rendered: Rendered) -> None: ...
    def emit(self, message: str, *, error: bool = False) -> None: ...
    def summarise(self, message: str) -> None: ...
    def line(self, message: str, *, error: bool = False) -> str: ...
