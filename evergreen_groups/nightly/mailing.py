"""Mails the report: each recipient gets the groups of their libraries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Unpack
from urllib.parse import quote

from evergreen_groups.formats import output_format
from evergreen_groups.ils import OrgUnits
from evergreen_groups.language import current_language, gettext, use_language
from evergreen_groups.mail import Attachment, Letter, Mail, Mailer, build_message
from evergreen_groups.nightly.output import Readers, library_file_names, report_date
from evergreen_groups.render.report import (
    LetterOptions,
    WritingOptions,
    due_groups,
    html_letter,
    plain_letter,
    render_bytes,
    subject_line,
)
from evergreen_groups.report import libraries
from evergreen_groups.state import private_file, temporary_directory, write_errors

if TYPE_CHECKING:
    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.report import Report
    from evergreen_groups.settings import MailSettings
    from evergreen_groups.state import Transactions

EVERYTHING = "*"
"""Name among the recipients for the whole report."""


def addresses_by_libraries(
    recipients: Iterable[tuple[str, tuple[str, ...]]], org_units: OrgUnits, listed: Iterable[str] = ()
) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Map tuples of libraries and systems (short names; empty: the whole report) to the addresses that get them.

    An address that occurs several times, in any capitalization, is listed once, with all its libraries except those
    below another one. ``listed`` are the libraries in the report (empty: all). Addresses that want only other libraries
    are left out, because the report doesn't have all groups of those.

    Raises:
        ConfigurationError: an org unit doesn't exist.
    """
    tops = {org_units.find(name).id for name in listed}
    wanted: dict[str, set[int]] = {}
    spelling: dict[str, str] = {}
    for name, addresses in recipients:
        org_unit = org_units.root if name == EVERYTHING else org_units.find(name)
        for address in addresses:
            spelled = spelling.setdefault(address.casefold(), address)
            wanted.setdefault(spelled, set()).add(org_unit.id)
    parts: dict[tuple[str, ...], list[str]] = {}
    for address, ids in wanted.items():
        known = ids if org_units.root.id in ids else set().union(*(_within(id, tops, org_units) for id in ids))
        if known:
            parts.setdefault(_names(known, org_units), []).append(address)
    return {part: tuple(addresses) for part, addresses in parts.items()}


def _within(id: int, tops: set[int], org_units: OrgUnits) -> set[int]:
    """Return the part of an org unit that the report covers: all of it, or those of ``tops`` (empty: all) below it."""
    if not tops or tops.intersection(org_units.upwards(id)):
        return {id}
    return {top for top in tops if id in org_units.upwards(top)}


def _names(ids: set[int], org_units: OrgUnits) -> tuple[str, ...]:
    """Return the short names of the org units that aren't below another one; () if the root is included."""
    if org_units.root.id in ids:
        return ()
    tops = [id for id in ids if not ids.intersection(org_units.upwards(id)[1:])]
    return tuple(sorted(org_units.shortname(id) for id in tops))


def mailer_for(settings: MailSettings, letters: Iterable[MailSettings], transactions: Transactions) -> Mailer:
    """Return the configured mailer. Call this before reading a report, so that bad settings are found at once.

    All ``letters`` use the same mail server. Each report has its own recipients; the mailer only checks that there are
    any.
    """
    recipients = tuple(entry for letter in letters for entry in letter.recipients)
    return Mailer.configured(replace(settings, recipients=recipients), os.environ, transactions)


def messages(
    report: Report,
    settings: MailSettings,
    readers: Readers | None = None,
    agreed: Mapping[int, FollowUpState] = MappingProxyType({}),
    *,
    with_name: bool = False,
    links_to_list: bool = False,
    **options: Unpack[WritingOptions],
) -> Iterator[Mail]:
    """Yield a mail for each recipient with their part of the report, if the report covers their libraries.

    The mail is in the language of its ``readers`` (None: the current one). It says what is due of what was ``agreed``
    with groups, by number. With ``links_to_list``, its link is to a page that can list just those. ``with_name`` puts
    the report's name before the subject. Patrons' names link to the staff client if the settings allow names in mail.
    ``options`` also apply to the attachment.
    """
    # How to reach patrons is never mailed, not even in an attachment.
    report = replace(report, contacts=None)
    org_units = OrgUnits(report.org_units)
    run = f"{report.gateway} {report.generated_at.isoformat()}" + (f" {report.name}" if report.name else "")
    all_libraries = tuple(org_units.find(name).shortname for name in report.criteria.orgs)
    for names, addresses in addresses_by_libraries(settings.recipients, org_units, report.criteria.orgs).items():
        part = libraries.for_libraries(report, names) if names else report
        cleared = part.changes is not None and part.changes.cleared
        if not part.groups and not cleared and not settings.send_empty:
            continue
        # A mail without names must contain nothing else about patrons either, not even an id in a link.
        letter_options = LetterOptions(
            names=settings.names_in_mail,
            places=names or all_libraries,
            due=due_groups(part, agreed),
            links_to_list=links_to_list,
            links=_links(part, settings.link, names or all_libraries or (org_units.root.shortname,)),
            client=options.get("client") if settings.names_in_mail else None,
        )
        with use_language(readers.of_libraries(names) if readers else current_language()):
            subject = subject_line(settings.subject, part, letter_options.places)
            if with_name and report.name:
                subject = gettext("{label}: {value}", label=report.name, value=subject)
            letter = Letter(
                subject=subject,
                text=plain_letter(part, letter_options),
                html=html_letter(part, letter_options),
                attachment=None if settings.attach == "none" else _attachment(part, settings.attach, options),
                language=current_language().tag,
            )
        for address in addresses:
            yield build_message(
                letter, sender=settings.sender or "", recipient=address, written_at=report.generated_at, run=run
            )


def _links(report: Report, link: str | None, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the configured link, or a link per library or system if it has the placeholder ``{library}``."""
    if link is None:
        return ()
    date = report_date(report)
    if "{library}" not in link:
        return (("", link.format(date=date)),)
    files = library_file_names([unit.shortname for unit in report.org_units])
    return tuple((name, link.format(date=date, library=quote(files[name]))) for name in names)


def _attachment(report: Report, name: str, options: WritingOptions) -> Attachment:
    attached = output_format(name)
    stream = private_file()
    attachment = Attachment(f"groups-{report_date(report)}.{attached.ending}", attached.media_type, stream)
    with write_errors(temporary_directory()):
        render_bytes(report, name, stream, **options)
    return attachment
