"""One report of a run, from what was read to what was written and is to be mailed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import TYPE_CHECKING

from evergreen_groups.nightly.output import Rendered, WrittenReport, write
from evergreen_groups.render import StaffClient
from evergreen_groups.state import prune

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.mail import Delivery, Mailer
    from evergreen_groups.nightly.options import ReportJob
    from evergreen_groups.nightly.readers import Readers
    from evergreen_groups.progress import Progress
    from evergreen_groups.render.report import WritingOptions
    from evergreen_groups.report import History, Report
    from evergreen_groups.settings import Settings
    from evergreen_groups.state import Transactions

log = logging.getLogger("evergreen_groups.report_run")


@dataclass(slots=True)
class MadeReport:
    """A report, where it goes and who reads it; ``history`` is its own (None: the database can't be used)."""

    job: ReportJob
    report: Report
    history: History | None
    readers: Readers
    letters: list[EmailMessage] = field(default_factory=list)
    rendered: Rendered | None = None
    written: WrittenReport | None = None

    def write_letters(self, settings: Settings) -> None:
        """Write its mails, where it has any.

        Raises:
            ConfigurationError: a recipient's library isn't there.
        """
        if self.job.mail is None:
            return
        from evergreen_groups.nightly.mailing import messages

        client = StaffClient.of(settings, self.report.gateway)
        dialect = self.job.target.dialect
        options: WritingOptions = {"client": client, "dialect": dialect}
        self.letters = list(
            messages(self.report, self.job.mail, self.readers, with_name=not self.job.own_subject, **options)
        )

    def write(self, width: int, progress: Progress, settings: Settings) -> None:
        """Write it to its target; what goes to standard output is kept.

        Raises:
            ConfigurationError: it can't be written there.
        """
        if not self.job.target.formats:  # it is mailed and nothing else
            return
        client = StaffClient.of(settings, self.report.gateway)
        made = write(self.report, self.job.target, width, progress, client, self.readers)
        if isinstance(made, Rendered):
            self.rendered = made
        else:
            self.written = made


def send(mailer: Mailer) -> Delivery:
    """Send what is in the outbox, and say how it went."""
    delivery = mailer.deliver()
    log.info("%d mails sent", delivery.sent)
    if delivery.dropped:
        log.error("%d mails were given up: they had waited too long", delivery.dropped)
    if delivery.queued:
        log.error("%d mails are queued for the next run: %s", delivery.queued, delivery.reason)
    return delivery


def remove_what_is_too_old(settings: Settings, transactions: Transactions, now: datetime) -> None:
    """Remove of what is kept what the settings keep no longer."""
    days = {
        "history": settings.history.keep_days,
        "journal": settings.journal.keep_days,
        "events": settings.events.keep_days,
    }
    for name, rows in prune(transactions, days, now).items():
        if rows:
            log.info("%d rows of the %s were too old and are removed", rows, name)
