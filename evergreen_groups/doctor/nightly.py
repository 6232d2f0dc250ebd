"""Checks of the mail server, the last run and the shared counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups import exit_status
from evergreen_groups.doctor.finding import NOT_CONFIGURED, Finding, failed, from_error, ok, warning
from evergreen_groups.mail import Mailer
from evergreen_groups.settings import passwords
from evergreen_groups.state import RunOutcome, check_counter_store, counter_host, read_run_status

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Found, Subject


_ENDED = "{finished}: exit status {status} ({meaning})"
_RUN_AGAIN = "see the log for the cause, then run `evergreen-groups report`"
_TWO_NIGHTS = timedelta(hours=50)  # with some room for runs that take longer

_REPORTS_WITHOUT_MAIL_SERVER = failed(
    "reports-without-mail-server",
    "no mail server is set, but these reports have recipients: {reports}",
    "set [mail] host and sender, or remove the recipients",
    "mail.host",
)
_MAILS_HELD = warning(
    "mails-held",
    "mails held since a restore: {count:,}",
    "run `evergreen-groups state mails send`, or `drop` if they were sent after the backup",
)
_MAILS_WAITING = warning(
    "mails-waiting",
    "mails waiting to be sent: {count:,}",
    "the next run of report --mail sends them; its log says why they weren't sent",
)
_RUN_KILLED = warning(
    "run-killed", "a run was killed ({holder})", "check the system's log; the next run continues as usual"
)
_RUN_FAILED = warning("run-failed", _ENDED, _RUN_AGAIN)
_RUN_INCOMPLETE = warning("run-incomplete", _ENDED, _RUN_AGAIN)
_RUN_OVERDUE = warning("run-overdue", "too old: {finished}", "check the timer or crontab")


def mail_settings(subject: Subject) -> Found:
    """If a report is mailed, the settings are complete. Doesn't contact the server."""
    to_mail = [report.name for report in subject.settings.reports if report.recipients]
    if subject.settings.mail.host is not None:
        _mailer(subject)
    elif to_mail:
        return _REPORTS_WITHOUT_MAIL_SERVER(reports=to_mail)
    return ()


def _mailer(subject: Subject) -> Mailer:
    # As in a run, include the recipients of [[reports]]: [mail] may have none.
    settings = subject.settings.mail
    recipients = settings.recipients + tuple(
        entry for report in subject.settings.reports for entry in report.recipients
    )
    return Mailer.configured(replace(settings, recipients=recipients), subject.environ, subject.state.database)


def mail(subject: Subject) -> Iterator[Finding]:
    """The mail server can be reached, encrypts as configured, and accepts the login. Sends no mail."""
    host = subject.settings.mail.host
    if host is None:
        wrong = mail_settings(subject)
        yield wrong if isinstance(wrong, Finding) else NOT_CONFIGURED
        return
    mailer = _mailer(subject)
    obstacle = mailer.obstacle()
    if obstacle is not None:
        yield from_error(obstacle)
        return
    if held := mailer.outbox.held().count:
        yield _MAILS_HELD(count=held)
    if waiting := len(mailer.outbox):
        yield _MAILS_WAITING(count=waiting)
    elif not held:
        yield ok("{host}", host=host)


def last_run(subject: Subject) -> Finding:
    """The report runs every night, and the last run succeeded."""
    holder = subject.state.report_holder()
    last = read_run_status(subject.state.database)
    if holder is not None and holder.was_killed(last.started if last else None):
        return _RUN_KILLED(holder=holder.message)
    if last is None:
        return ok("none yet")
    ended = {
        "finished": last.finished,
        "status": last.exit_code,
        "meaning": exit_status.MEANINGS.get(last.exit_code, last.error or "?"),
    }
    if last.outcome is RunOutcome.FAILED:
        return _RUN_FAILED(**ended)
    if last.outcome is RunOutcome.PARTIAL:
        return _RUN_INCOMPLETE(**ended)
    if subject.state.database.now() - last.finished > _TWO_NIGHTS:
        return _RUN_OVERDUE(finished=last.finished)
    return ok(
        "{finished}, in {seconds:,.1f} s; groups: {groups:,}",
        finished=last.finished,
        groups=last.groups or 0,
        seconds=last.seconds,
    )


def shared_counters(subject: Subject) -> Finding:
    """The Redis server, if configured, can be reached and accepts the password."""
    settings = subject.settings.redis
    if settings.url is None:
        return NOT_CONFIGURED
    check_counter_store(settings.url, passwords.secret(settings, subject.environ))
    return ok("{where}", where=counter_host(settings.url))
