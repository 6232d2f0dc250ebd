"""The check of the mail server."""

from __future__ import annotations

from collections.abc import Iterator

from evergreen_groups.diagnosis.finding import Finding, Line
from evergreen_groups.diagnosis.subject import Subject


def mail(subject: Subject, line: Line) -> Iterator[Finding]:
    """It can be reached and takes the login; no mail is sent."""
    settings = subject.settings.mail
    if settings.host is None:
        yield line.ok("none set: the report is not mailed")
