"""Checks of the mail server, the last run and the shared counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.doctor.finding import NOT_CONFIGURED, failed, from_error, ok, warning
from evergreen_groups.mail import Mailer
from evergreen_groups.settings import passwords
from evergreen_groups.state import RunOutcome, check_counter_store, counter_host, read_run_status

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, Subject


def mail_settings(subject: Subject) -> Iterator[Finding]:
    """If a report is mailed, the settings are complete. Doesn't contact the server."""
    settings = subject.settings.mail
    to_mail = [report for report in subject.settings.reports if report.recipients]
    if settings.host is None and to_mail:
        yield failed(
            "no mail server is set, but these reports have recipients: {reports}",
            "set [mail] host and sender, or remove the recipients",
            code="reports-without-mail-server",
            values={"reports": [report.name for report in to_mail]},
            setting="mail.host",
        )
    elif settings.host is not None:
        _mailer(subject)


def _mailer(subject: Subject) -> Mailer:
    # As in a run, include the recipients of [[reports]]: [mail] may have none.
    settings = subject.settings.mail
    recipients = settings.recipients + tuple(
        entry for report in subject.settings.reports for entry in report.recipients
    )
    return Mailer.configured(replace(settings, recipients=recipients), subject.environ, subject.state.database)


def mail(subject: Subject) -> Iterator[Finding]:
    """The mail server can be reached, encrypts as configured, and accepts the login. Sends no mail."""
    settings = subject.settings.mail
    wrong = [*mail_settings(subject)]
    yield from wrong
    if settings.host is None:
        if not wrong:
            yield NOT_CONFIGURED
        return
    mailer = _mailer(subject)
    obstacle = mailer.obstacle()
    if obstacle is not None:
        yield from_error(obstacle)
        return
    held = mailer.outbox.held().count
    if held:
        yield warning(
            "mails held since a restore: {count:,}",
            "run `evergreen-groups state mails send`, or `drop` if they were sent after the backup",
            code="mails-held",
            values={"count": held},
        )
    if waiting := len(mailer.outbox):
        yield warning(
            "mails waiting to be sent: {count:,}",
            "the next run of report --mail sends them; its log says why they weren't sent",
            code="mails-waiting",
            values={"count": waiting},
        )
    elif not held:
        yield ok("{host}", values={"host": settings.host})


_ENDED = "{finished}: exit status {status} ({meaning})"
_RUN_AGAIN = "see the log for the cause, then run `evergreen-groups report`"
_TWO_NIGHTS = timedelta(hours=50)  # with some room for runs that take longer


def last_run(subject: Subject) -> Iterator[Finding]:
    """The report runs every night, and the last run succeeded."""
    holder = subject.state.report_holder()
    last = read_run_status(subject.state.database)
    if holder is not None and holder.was_killed(last.started if last else None):
        yield warning(
            "a run was killed ({holder})",
            "check the system's log; the next run continues as usual",
            code="run-killed",
            values={"holder": holder.message},
        )
        return
    if last is None:
        yield ok("none yet")
        return
    values = {
        "finished": last.finished,
        "status": last.exit_code,
        "meaning": exit_status.MEANINGS.get(last.exit_code, last.error or "?"),
    }
    if last.outcome is RunOutcome.FAILED:
        yield warning(_ENDED, _RUN_AGAIN, code="run-failed", values=values)
    elif last.outcome is RunOutcome.PARTIAL:
        yield warning(_ENDED, _RUN_AGAIN, code="run-incomplete", values=values)
    elif subject.state.database.now() - last.finished > _TWO_NIGHTS:
        yield warning(
            "too old: {finished}", "check the timer or crontab", code="run-overdue", values={"finished": last.finished}
        )
    else:
        yield ok(
            "{finished}, in {seconds:,.1f} s; groups: {groups:,}",
            values={"finished": last.finished, "groups": last.groups or 0, "seconds": last.seconds},
        )


def shared_counters(subject: Subject) -> Iterator[Finding]:
    """The Redis server, if configured, can be reached and accepts the password."""
    settings = subject.settings.redis
    if settings.url is None:
        yield NOT_CONFIGURED
        return
    check_counter_store(settings.url, passwords.secret(settings, subject.environ))
    yield ok("{where}", values={"where": counter_host(settings.url)})
