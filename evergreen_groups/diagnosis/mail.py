"""The check of the mail server."""

from __future__ import annotations

from collections.abc import Iterator

from evergreen_groups.diagnosis.finding import Finding, Line
from evergreen_groups.diagnosis.subject import Subject
from evergreen_groups.mail import Mailer


def mail(subject: Subject, line: Line) -> Iterator[Finding]:
    """The server can be reached, encrypts as it should and takes the login; no mail is sent."""
    settings = subject.settings.mail
    if settings.host is None:
        yield line.ok("none set: the report is not mailed")
        return
    mailer = Mailer.configured(settings, subject.environ, subject.state_directory)
    obstacle = mailer.obstacle()
    if obstacle is not None:
        found, _, advice = obstacle.partition("; ")
        yield line.failed(found, advice or "check [mail] in the configuration, and the server")
    elif mailer.waiting:
        yield line.warning(
            f"{settings.host} takes mails, but {mailer.waiting} of earlier runs are waiting",
            "the next run of report --mail sends them; its log says why they weren't sent",
        )
    else:
        yield line.ok(f"{settings.host} can be reached" + (" and takes the login" if settings.username else ""))
