"""What the reports of ``[[reports]]`` list and where they go, and what ``[report]`` lists, as its settings say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen_groups.formats import format_for, output_format
from evergreen_groups.nightly.options import ReportJob, Target, choice_of
from evergreen_groups.report import Criteria

if TYPE_CHECKING:
    from evergreen_groups.policy import Limit
    from evergreen_groups.settings import NamedReport, ReportSettings, Settings


def named_job(report: NamedReport, settings: Settings, *, limit: Limit | None, mails: bool) -> ReportJob:
    """A report of ``[[reports]]``, mailed to its own recipients where the run ``mails``.

    Raises:
        ConfigurationError: it goes nowhere, or the target doesn't fit the format.
    """
    mail = None
    if mails and report.recipients:
        subject = report.subject or settings.mail.subject
        mail = replace(settings.mail, recipients=report.recipients, subject=subject, link=report.link)
    own_subject = report.subject is not None
    return ReportJob(criteria_of(report.report, limit), _target(report), mail, report.name, own_subject)


def criteria_of(settings: ReportSettings, limit: Limit | None) -> Criteria:
    """What is listed, with the limit of everybody (None: there are several)."""
    return Criteria(
        min_total=settings.min_total,
        min_members=settings.min_members,
        orgs=settings.orgs,
        sort=settings.sort,
        top=settings.top,
        limit=limit,
        choice=choice_of(settings),
        details=settings.details == "full",
    )


def _target(report: NamedReport) -> Target:
    settings = report.report
    if settings.output is None:
        return Target(None, (), dialect=settings.csv)
    if settings.split == "library":
        keep_days = settings.keep_days
        return Target(settings.output, settings.formats, split=True, keep_days=keep_days, dialect=settings.csv)
    name = format_for(settings.output, None, settings.format)
    return Target(settings.output, (output_format(name).name,), dialect=settings.csv)
