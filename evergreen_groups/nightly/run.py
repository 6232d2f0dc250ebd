"""A report run: makes the reports within a deadline and never two runs at a time, and tells monitoring the outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.message import Message
from evergreen_groups.nightly.jobs import RunPurpose
from evergreen_groups.nightly.monitoring import call_url, write_metrics
from evergreen_groups.nightly.output import PreparedReport, Readers, Rendered, WrittenReport, write_failure_page
from evergreen_groups.nightly.steps import Environment, Work, mailer_for, make_reports, send
from evergreen_groups.state import RunOutcome, read_run_status, write_run_status

if TYPE_CHECKING:
    from evergreen_groups.mail import Delivery
    from evergreen_groups.nightly.jobs import ReportOptions

AT_TERMINAL = Message(
    "This run isn't recorded, so tonight's report won't be compared with it. To record a run, use --history."
)
NOT_PUBLISHED = Message(
    "This run isn't recorded, and {path} isn't replaced, because the run differs from the configuration "
    "({settings}). To replace it, use --publish."
)

log = logging.getLogger("evergreen_groups.report_run")


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


class ReportRun:
    """One run of the report. ``choose`` returns what to do; it is called late, so that a bad setting is recorded.

    The ``purpose`` determines what the run leaves behind. Monitoring watches only ``scheduled`` runs, by default the
    nightly ones; a manual run has a separate status and calls only a health check named on the command line.
    ``healthcheck_url`` and ``deadline`` (seconds) come from the command line: the former is called even if the settings
    are invalid, the latter is how long to wait for another run.
    """

    def __init__(
        self,
        environment: Environment,
        choose: Callable[[], ReportOptions],
        *,
        purpose: RunPurpose,
        scheduled: bool | None = None,
        healthcheck_url: str | None = None,
        deadline: int | None = None,
    ) -> None:
        self._environment = environment
        self._choose = choose
        self._healthcheck_url = healthcheck_url
        self._deadline = deadline
        is_nightly = purpose is RunPurpose.NIGHTLY
        self._work = Work(environment, purpose, is_nightly if scheduled is None else scheduled, datetime.now(UTC))

    def __call__(self) -> int:
        """Make the reports and return the exit status. Record the outcome in any case, except of a preview.

        Standard output is written last, after the lease is released, because a pager may hold it for long.
        """
        work = self._work
        try:
            with ExitStack() as stack:
                self._open_state(stack)
                # Called last: after the status is stored, and after the lease and the deadline have ended.
                stack.callback(lambda: work.state.plugins.notify("report_finished", *work.recorded))
                if work.purpose is not RunPurpose.PREVIEW:
                    self._take_lease(stack)
                status = self._send_queued() if self._is_already_made() else self._make()
        except EvergreenGroupsError:
            self._show()  # whatever was made before the error
            raise
        self._show()
        return status

    def _open_state(self, stack: ExitStack) -> None:
        work = self._work
        try:
            work.state = stack.enter_context(self._environment.state())
            work.state.load()
            work.database = work.state.database
        except EvergreenGroupsError as error:
            # There is no place to record the run, but monitoring is told anyway.
            if work.purpose is RunPurpose.NIGHTLY:
                self._call_healthcheck(succeeded=False)
                with suppress(ConfigurationError):  # invalid settings name no file
                    status = work.status(datetime.now(UTC), exit_status.for_exception(error), error)
                    write_metrics(self._environment.settings, status, None)
            raise

    def _take_lease(self, stack: ExitStack) -> None:
        """Take the lease that keeps other runs out.

        If the shared database can't be reached or the lease can't be taken, another run may be active. The reports are
        then made, nothing is mailed, and the run ends with the error.
        """
        work, report = self._work, self._environment.settings.report
        # If the other run fails while this one waits, this one makes the report instead.
        timeout = float(self._deadline or report.deadline) if report.hours_between_runs else 0.0
        lease = work.from_database(lambda: stack.enter_context(work.state.report_lease(timeout)), None)
        if lease is not None:
            work.database, work.started = lease, lease.since

    def _is_already_made(self) -> bool:
        """Return whether any server has made the report so recently that a scheduled run can skip it."""
        work, hours = self._work, self._environment.settings.report.hours_between_runs
        if not hours or not work.scheduled:
            return False
        last = work.from_database(partial(read_run_status, work.database), None)
        if last is None or not last.wrote_within(timedelta(hours=hours), work.database.now()):
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

    def _send_queued(self) -> int:
        work, options = self._work, self._choose()
        mailer = mailer_for(work, options)
        if mailer is None or not len(mailer.outbox):
            return exit_status.DONE
        with work.deadline(options):
            return exit_status.DONE if send(work, mailer) else exit_status.UNSENT

    def _make(self) -> int:
        try:
            status = make_reports(self._work, self._choose())
        except BaseException as error:
            self._publish_status(exit_status.for_exception(error), error)
            raise
        return self._publish_status(status)

    def _publish_status(self, exit_code: int, error: BaseException | None = None) -> int:
        """Store the final status and tell monitoring. Return the exit status; a failure to store changes it.

        If a run that others wait for fails, leave a page for the readers of its reports.
        """
        work, settings = self._work, self._environment.settings
        if work.purpose is RunPurpose.PREVIEW:
            return exit_code
        status = work.status(work.now(), exit_code, error)
        awaited = work.purpose is RunPurpose.NIGHTLY or work.scheduled
        problem = None
        try:
            write_run_status(work.database, status, manual=not work.scheduled)
        except EvergreenGroupsError as refusal:
            if awaited:
                problem, exit_code = refusal, exit_code or exit_status.FAILED
            log.info("the status of this run could not be stored: %s", type(refusal).__name__)
        if status.outcome is RunOutcome.FAILED and awaited:
            for job in work.options.jobs if work.options else ():
                write_failure_page(job.target, status, error, Readers(settings.language).of_all)
        self._call_healthcheck(succeeded=exit_code == exit_status.DONE)
        if problem is not None:
            text = Message("the status of this run couldn't be stored: {problem}", values={"problem": problem})
            self._environment.emit(text, error=True)
        write_metrics(settings, status, work.database)
        return exit_code

    def _call_healthcheck(self, *, succeeded: bool) -> None:
        options = self._work.options
        url = options.healthcheck_url if options else self._healthcheck_url
        if url and (self._work.scheduled or self._healthcheck_url):
            call_url(url if succeeded else f"{url}/fail")

    def _show(self) -> None:
        """Write the reports to standard output, and notes and the summary to standard error."""
        work = self._work
        for one in work.made:
            if isinstance(one.output, Rendered):
                self._environment.write(one.output)
        if self._environment.quiet:
            return
        for one in work.read:
            for note in one.report.notes:
                named = Message("{label}: {value}", values={"label": one.job.name, "value": note})
                self._environment.emit(named if one.job.name else note)
        if work.made and work.purpose is RunPurpose.AT_TERMINAL:
            differences = work.options.differences if work.options else ()
            values = {"path": self._environment.settings.report.output, "settings": ", ".join(differences)}
            self._environment.emit(NOT_PUBLISHED.with_values(values) if differences else AT_TERMINAL)
        if done := summary(work.made, work.delivery):
            self._environment.summarise(done)
