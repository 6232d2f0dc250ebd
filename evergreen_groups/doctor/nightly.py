"""Checks of the mail server, the last run and the shared counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups.doctor.finding import failed, from_error, ok, warning
from evergreen_groups.mail import Mailer
from evergreen_groups.message import Message
from evergreen_groups.settings import passwords
from evergreen_groups.state import RunOutcome, check_counter_store, counter_host, read_run_status, was_killed

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, Subject


def mail_settings(subject: Subject) -> Iterator[Finding]:
    """The settings are complete if a report is to be mailed. Doesn't contact the server."""
    settings = subject.settings.mail
    to_mail = [report for report in subject.settings.reports if report.recipients]
    if settings.host is None and to_mail:
        yield failed(
            "no mail server is set, and these reports have recipients: {reports}",
            "set host and sender in [mail], or take the recipients out of [[reports]]",
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
            yield ok("no mail server is set: the report is not mailed")
        return
    mailer = _mailer(subject)
    obstacle = mailer.obstacle()
    if obstacle is not None:
        yield from_error(obstacle)
    elif waiting := len(mailer.outbox):
        yield warning(
            "{host} takes mails, but there are some of earlier runs that wait: {count:,}",
            "the next run of report --mail sends them; its log says why they weren't sent",
            code="mails-waiting",
            values={"host": settings.host, "count": waiting},
        )
    elif settings.username:
        yield ok("{host} can be reached and takes the login", values={"host": settings.host})
    else:
        yield ok("{host} can be reached", values={"host": settings.host})


_TWO_NIGHTS = timedelta(hours=50)  # with some room for runs that take longer


def last_run(subject: Subject) -> Iterator[Finding]:
    """The report runs every night, and the last run succeeded."""
    holder = subject.state.report_holder()
    last = read_run_status(subject.state.database)
    if holder is not None and was_killed(last, holder):
        yield warning(
            "a run was killed ({holder})",
            "look into the system's log; the next run goes on as usual",
            code="run-killed",
            values={"holder": holder.message},
        )
        return
    if last is None:
        yield ok("no run of the report has ended yet")
        return
    values = {"finished": last.finished, "status": last.exit_code}
    if last.outcome is RunOutcome.FAILED:
        yield warning(
            "the one of {finished} failed (exit status {status}, {error})",
            "see what failed here, then run evergreen-groups report",
            code="run-failed",
            values={**values, "error": last.error or Message("no error named")},
        )
    elif last.outcome is RunOutcome.PARTIAL:
        yield warning(
            "the one of {finished} was not complete (exit status {status})",
            "evergreen-groups --help says what that status means",
            code="run-incomplete",
            values=values,
        )
    elif subject.state.database.now() - last.finished > _TWO_NIGHTS:
        yield warning(
            "the last one was that of {finished}",
            "look at the timer or the crontab",
            code="run-overdue",
            values=values,
        )
    else:
        yield ok(
            "{finished}, groups: {groups:,}, in {seconds:,.1f} s",
            values={**values, "groups": last.groups or 0, "seconds": last.seconds},
        )


def shared_counters(subject: Subject) -> Iterator[Finding]:
    """The Redis server, if configured, can be reached and accepts the password."""
    settings = subject.settings.redis
    if settings.url is None:
        yield ok("each process counts by itself: no [redis] url is set")
        return
    check_counter_store(settings.url, passwords.secret(settings, subject.environ))
    yield ok("{where} answers", values={"where": counter_host(settings.url)})
