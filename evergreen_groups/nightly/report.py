"""One report of a run, from reading to writing and mailing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from typing import TYPE_CHECKING

from evergreen_groups.ils import OrgUnits, read_timezones, shortnames_upwards
from evergreen_groups.message import Message
from evergreen_groups.nightly.output import Rendered, WrittenReport, write
from evergreen_groups.progress import Progress, silent
from evergreen_groups.render import StaffClient
from evergreen_groups.report import Choice, Criteria, Report, apply_criteria, build_report
from evergreen_groups.state import prune

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import OrgUnit
    from evergreen_groups.language import Language
    from evergreen_groups.mail import Delivery, Mailer
    from evergreen_groups.nightly.jobs import ReportJob
    from evergreen_groups.render.report import WritingOptions
    from evergreen_groups.report import History
    from evergreen_groups.settings import LanguageSettings, PolicySettings, Settings
    from evergreen_groups.state import Transactions

log = logging.getLogger("evergreen_groups.report_run")


@dataclass(slots=True)
class PreparedReport:
    """A report that was read, with its job and readers. ``history`` is None if the database can't be used."""

    job: ReportJob
    report: Report
    history: History | None
    readers: Readers
    letters: list[EmailMessage] = field(default_factory=list)
    rendered: Rendered | None = None
    written: WrittenReport | None = None

    def write_letters(self, settings: Settings) -> None:
        """Render the report's mails, if it has recipients.

        Raises:
            ConfigurationError: a recipient's library doesn't exist.
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
        """Write the report to its target, or keep it in ``rendered`` for standard output.

        Raises:
            ConfigurationError: the target can't be written.
        """
        if not self.job.target.formats:  # only mailed
            return
        client = StaffClient.of(settings, self.report.gateway)
        made = write(self.report, self.job.target, width, progress, client, self.readers)
        if isinstance(made, Rendered):
            self.rendered = made
        else:
            self.written = made


def send(mailer: Mailer) -> Delivery:
    """Send the queued mails, and log the result."""
    delivery = mailer.deliver()
    log.info("%d mails sent", delivery.sent)
    if delivery.dropped:
        log.error("%d mails were given up: they had waited too long", delivery.dropped)
    if delivery.queued:
        log.error("%d mails are queued for the next run: %s", delivery.queued, delivery.reason)
    return delivery


def remove_expired_rows(settings: Settings, transactions: Transactions, now: datetime) -> None:
    """Remove rows that are older than the settings allow."""
    days = {
        "history": settings.history.keep_days,
        "journal": settings.journal.keep_days,
        "events": settings.events.keep_days,
    }
    for name, rows in prune(transactions, days, now).items():
        if rows:
            log.info("%d rows of the %s were too old and are removed", rows, name)


def read_reports(
    gateway: Gateway,
    wanted: Sequence[Criteria],
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    now: datetime | None = None,
) -> list[Report]:
    """Return a report for each of the criteria, in order, from a single reading.

    Raises the same errors as :func:`~evergreen_groups.report.build_report`.
    """
    if len(wanted) == 1:
        return [build_report(gateway, wanted[0], progress, policy=policy, now=now)]
    everything = build_report(gateway, combined_criteria(wanted), progress, policy=policy, now=now)
    org_units = OrgUnits(everything.org_units)
    for criteria in wanted:
        org_units.named(criteria.orgs)  # an unknown library would silently select nothing
    return [_part(everything, criteria) for criteria in wanted]


def combined_criteria(wanted: Sequence[Criteria]) -> Criteria:
    """Return criteria that include every group which meets any of ``wanted``.

    >>> combined_criteria([Criteria(), Criteria(orgs=("BR1",), top=3)]).orgs
    ()
    """
    first = wanted[0]
    orgs = {name: None for criteria in wanted for name in criteria.orgs}
    return Criteria(
        min_total=min(criteria.min_total for criteria in wanted),
        min_members=min(criteria.min_members for criteria in wanted),
        orgs=tuple(orgs) if all(criteria.orgs for criteria in wanted) else (),
        limit=first.limit,
        choice=Choice(),
        details=any(criteria.details for criteria in wanted),
    )


def _part(everything: Report, criteria: Criteria) -> Report:
    """Select the report of some criteria from one with wider criteria."""
    from evergreen_groups.report import for_libraries  # imported late: not needed for a single report

    part = for_libraries(everything, criteria.orgs) if criteria.orgs else everything
    found = apply_criteria(replace(part, notes=everything.notes), criteria)
    if len(found.groups) == len(everything.groups):
        return found
    # Notes about the reading count the groups of all reports, so say so.
    noted = [_about_all_reports(note) if note in everything.notes else note for note in found.notes]
    return replace(found, notes=tuple(noted))


def _about_all_reports(note: str) -> Message:
    return Message("Of everything that was read: {note}", values={"note": note})


@dataclass(frozen=True, slots=True)
class Readers:
    """The readers' languages. A library's language is that of the nearest org unit at or above it in ``settings``.

    ``timezones`` are those of org units by id (empty: this machine's), ``org_units`` all of Evergreen's.
    """

    settings: LanguageSettings
    org_units: Collection[OrgUnit] = ()
    timezones: Mapping[int, tzinfo] = field(default_factory=dict)

    @property
    def of_all(self) -> Language:
        """The language for text about all libraries: the default, with the root's time zone."""
        roots = [unit for unit in self.org_units if unit.parent is None]
        return self.settings.language(timezone=self.timezones.get(roots[0].id) if roots else None)

    def of_library(self, shortname: str) -> Language:
        """Return the language for text about one library, or about a system with all its branches."""
        known = {name.casefold(): path for name, path in shortnames_upwards(self.org_units).items()}
        path = [name.casefold() for name in known.get(shortname.casefold(), (shortname,))]
        tags = {name.casefold(): tag for name, tag in self.settings.libraries}
        tag = next((tags[name] for name in path if name in tags), None)
        zones = [self.timezones.get(unit.id) for unit in self.org_units if unit.shortname.casefold() == path[0]]
        return self.settings.language(tag, zones[0] if zones else self.of_all.timezone)

    def of_libraries(self, shortnames: Collection[str]) -> Language:
        """Return the common language and time zone of several libraries, or the defaults where they differ."""
        languages = {self.of_library(name) for name in shortnames}
        if len(languages) == 1:
            return languages.pop()
        tags = {language.tag for language in languages}
        zones = {language.timezone for language in languages}
        fallback = self.of_all
        zone = zones.pop() if len(zones) == 1 else fallback.timezone
        return self.settings.language(tags.pop() if len(tags) == 1 else None, zone)


def timezones_for(gateway: Gateway, jobs: Iterable[ReportJob], settings: LanguageSettings) -> dict[int, tzinfo]:
    """Read the time zones of org units (by id) if people read times in the reports and no time zone is configured.

    Makes at most one call for all reports of a run. Raises the same errors as
    :func:`~evergreen_groups.ils.read_timezones`.
    """
    wanted = settings.timezone is None and any(job.mail or job.target.has_files_for_people for job in jobs)
    return read_timezones(gateway) if wanted else {}
