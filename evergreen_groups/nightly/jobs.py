"""The options of a report run: which reports to make and where they go."""

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
    """Where a report goes: standard output (``path`` None), a file, or a directory with a file per library (``split``).

    ``formats`` has one entry unless the target is a directory; it is empty if the report is only mailed. ``keep_days``
    is how long a directory's older files are kept (None: forever). ``dialect`` is the CSV dialect.
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
        """Whether the target has files for people, which depend on the reader's language and time zone."""
        return self.path is not None and not all(output_format(name).for_programs for name in self.formats)


@dataclass(frozen=True, slots=True)
class ReportJob:
    """One report of a run: what it lists, where it goes, and its ``mail`` settings (None: not mailed).

    ``name`` is the name in ``[[reports]]``, "" for the report of ``[report]``. The name precedes the subject of the
    mails unless the report has its ``own_subject``.
    """

    criteria: Criteria
    target: Target
    mail: MailSettings | None = None
    name: str = ""
    own_subject: bool = False


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The reports of one run, all made from the same reading. ``deadline`` is in seconds.

    If the run leaves the configured output alone, ``differences`` are the settings in which it differs from the
    configuration.
    """

    jobs: tuple[ReportJob, ...]
    deadline: int
    healthcheck_url: str | None
    differences: tuple[str, ...] = ()


class RunPurpose(Enum):
    """The kind of a run, which determines what it leaves behind."""

    NIGHTLY = "nightly"
    """Recorded: the next run is compared with it, and monitoring sees its outcome."""
    AT_TERMINAL = "at a terminal"
    """Writes and mails as told, but isn't recorded. Tonight's run still takes place and isn't compared with it.

    If it differs from the configuration, it leaves the configured output alone.
    """
    PREVIEW = "preview"
    """Only prints the report."""


def choice_of(settings: ReportSettings) -> Choice:
    """Return the criteria for groups other than the amount owed."""
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
    """Return the job for a report of ``[[reports]]``, mailed to its own recipients if the run ``mails``."""
    mail = None
    if mails and report.recipients:
        subject = report.subject or settings.mail.subject
        mail = replace(settings.mail, recipients=report.recipients, subject=subject, link=report.link)
    own_subject = report.subject is not None
    return ReportJob(criteria_of(report.report, limit), target_of(report.report), mail, report.name, own_subject)


def criteria_of(settings: ReportSettings, limit: Limit | None) -> Criteria:
    """Return the criteria of a report. ``limit`` applies to everyone (None: there are several limits)."""
    return Criteria(
        min_total=settings.min_total,
        min_members=settings.min_members,
        orgs=settings.orgs,
        sort=settings.sort,
        top=settings.top,
        limit=limit,
        choice=choice_of(settings),
        details=settings.details == "full",
        age_bands=settings.age_bands,
        contact=settings.contact,
        min_overdue=settings.min_overdue,
        min_lost=settings.min_lost,
        overdue_days=settings.overdue_days,
    )


def target_of(settings: ReportSettings) -> Target:
    """Return where a report goes according to its settings."""
    if settings.output is None:
        return Target(None, (), dialect=settings.csv)
    if settings.split == "library":
        keep_days = settings.keep_days
        return Target(settings.output, settings.formats, split=True, keep_days=keep_days, dialect=settings.csv)
    name = format_for(settings.output, None, settings.format)
    return Target(settings.output, (output_format(name).name,), dialect=settings.csv)
