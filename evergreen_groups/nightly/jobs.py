"""What one run of the report is to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.formats import format_for, output_format
from evergreen_groups.report import Choice, Criteria

if TYPE_CHECKING:
    from evergreen_groups.policy import Limit
    from evergreen_groups.settings import MailSettings, NamedReport, ReportSettings, Settings


@dataclass(frozen=True, slots=True)
class Target:
    """Where the report goes: to standard output (``path`` None), to a file, or with ``split`` to a directory.

    ``formats`` are those of a directory's files; of the other two there is one (none: it goes nowhere but by mail).
    ``keep_days`` is how long a directory's older files stay (None: for ever). ``dialect`` is that of CSV.
    """

    path: Path | None
    formats: tuple[str, ...]
    split: bool = False
    keep_days: int | None = None
    details: bool = True
    bom: bool = False
    dialect: str = "plain"

    @property
    def has_files_for_people(self) -> bool:
        """Whether it writes files that people read, in their language and time zone."""
        return self.path is not None and not all(output_format(name).for_programs for name in self.formats)


@dataclass(frozen=True, slots=True)
class ReportJob:
    """One report of a run: what it lists, where it goes, and who gets it by ``mail`` (None: nobody).

    ``name`` is that of a table of ``[[reports]]``; the report that ``[report]`` says has none. It stands before the
    subject of its mails unless that is its ``own_subject``.
    """

    criteria: Criteria
    target: Target
    mail: MailSettings | None = None
    name: str = ""
    own_subject: bool = False


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """One run: its reports, which are made from one reading. ``deadline`` is in seconds."""

    jobs: tuple[ReportJob, ...]
    deadline: int
    healthcheck_url: str | None


class RunPurpose(Enum):
    """What a run is for, which decides what it leaves behind."""

    NIGHTLY = "nightly"
    """The next one is compared with it, and how it ended is on record."""
    AT_TERMINAL = "at a terminal"
    """It writes and mails what it is told to; nothing is ever compared with it, and tonight's is made all the same."""
    LOOK = "look"
    """It only looks."""


def choice_of(settings: ReportSettings) -> Choice:
    """What the settings ask of groups besides owing enough."""
    return Choice(
        owing_since=settings.owing_since,
        kinds=settings.kinds,
        with_items_out=settings.with_items_out,
        with_juvenile=settings.with_juvenile,
        over_limit={"somebody": True, "nobody": False}.get(settings.over_limit),
        blocked=settings.blocked,
        profiles=settings.profiles,
    )


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
