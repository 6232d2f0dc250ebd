"""The report as mails: to each recipient the groups of their libraries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack
from urllib.parse import quote

from evergreen_groups.formats import output_format
from evergreen_groups.ils import OrgUnits
from evergreen_groups.language import current_language, gettext, use_language
from evergreen_groups.mail import Attachment, Letter, Mail, Mailer, build_message
from evergreen_groups.nightly.output import day_of, library_file_names
from evergreen_groups.render.report import (
    LetterOptions,
    WritingOptions,
    html_letter,
    plain_letter,
    render_bytes,
    subject_line,
)
from evergreen_groups.report import for_libraries
from evergreen_groups.state import private_file, temporary_directory, write_errors

if TYPE_CHECKING:
    from evergreen_groups.nightly.report import Readers
    from evergreen_groups.report import Report
    from evergreen_groups.settings import MailSettings
    from evergreen_groups.state import Transactions

EVERYTHING = "*"
"""The name among the recipients that stands for the whole report."""


def addressed(
    recipients: Iterable[tuple[str, tuple[str, ...]]], org_units: OrgUnits, listed: Iterable[str] = ()
) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Say which addresses get the report of which libraries and systems (short names; none: the whole report).

    An address that stands at several names is there once, however it is capitalised, with all of them but those below
    another. ``listed`` are the libraries that the report is about (none: all): of others it doesn't know every group,
    so an address that stands at those alone isn't there.

    Raises:
        ConfigurationError: there is no org unit of such a name.
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
    """What of an org unit the report is about: all of it, or those of ``tops`` (none: everything) below it."""
    if not tops or tops.intersection(org_units.upwards(id)):
        return {id}
    return {top for top in tops if id in org_units.upwards(top)}


def _names(ids: set[int], org_units: OrgUnits) -> tuple[str, ...]:
    """The short names of those org units that aren't below another of them; none where the root is one of them."""
    if org_units.root.id in ids:
        return ()
    tops = [id for id in ids if not ids.intersection(org_units.upwards(id)[1:])]
    return tuple(sorted(org_units.shortname(id) for id in tops))


def mailer_for(settings: MailSettings, letters: Iterable[MailSettings], transactions: Transactions) -> Mailer:
    """The mailer of the configuration; made before a report is read, so that a bad setting is found at once.

    There is one server for all ``letters``. Recipients are each report's own, and any of them will do to look whether
    there are some.

    Raises:
        ConfigurationError: no server, sender or recipients, or a password that can't be read.
    """
    recipients = tuple(entry for letter in letters for entry in letter.recipients)
    return Mailer.configured(replace(settings, recipients=recipients), os.environ, transactions)


def messages(
    report: Report,
    settings: MailSettings,
    readers: Readers | None = None,
    *,
    with_name: bool = False,
    **options: Unpack[WritingOptions],
) -> Iterator[Mail]:
    """A mail for each recipient with their part of the report, where it is about their libraries.

    It is in the language of its ``readers`` (None: in the one that is written now); with ``with_name``, the report's
    name stands before the subject. Where names of patrons are allowed, they lead into the staff client; the
    ``options`` are for what is attached, too.

    Raises:
        ConfigurationError: a recipient's library isn't there.
    """
    org_units = OrgUnits(report.org_units)
    run = f"{report.gateway} {report.generated_at.isoformat()}" + (f" {report.name}" if report.name else "")
    all_places = tuple(org_units.find(name).shortname for name in report.criteria.orgs)
    for places, addresses in addressed(settings.recipients, org_units, report.criteria.orgs).items():
        part = for_libraries(report, places) if places else report
        cleared = part.changes is not None and part.changes.cleared
        if not part.groups and not cleared and not settings.send_empty:
            continue
        # Without names there is nothing of a patron in a mail, no id either.
        letter_options = LetterOptions(
            names=settings.names_in_mail,
            places=places or all_places,
            links=_links(part, settings.link, places or all_places or (org_units.root.shortname,)),
            client=options.get("client") if settings.names_in_mail else None,
        )
        with use_language(readers.of_libraries(places) if readers else current_language()):
            letter = _letter(part, settings, letter_options, options, with_name=with_name)
        for address in addresses:
            yield build_message(
                letter,
                sender=settings.sender or "",
                recipient=address,
                written_at=report.generated_at,
                run=run,
            )


def _letter(
    report: Report, settings: MailSettings, options: LetterOptions, attached: WritingOptions, *, with_name: bool
) -> Letter:
    subject = subject_line(settings.subject, report, options.places)
    if with_name and report.name:
        subject = gettext("{name}: {subject}", name=report.name, subject=subject)
    return Letter(
        subject=subject,
        text=plain_letter(report, options),
        html=html_letter(report, options),
        attachment=None if settings.attach == "none" else _attachment(report, settings.attach, attached),
        language=current_language().tag,
    )


def _links(report: Report, link: str | None, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The configured link, or one for each library or system (its short name) where it distinguishes them."""
    if link is None:
        return ()
    date = day_of(report)
    if "{library}" not in link:
        return (("", link.format(date=date)),)
    files = library_file_names([unit.shortname for unit in report.org_units])
    return tuple((name, link.format(date=date, library=quote(files[name]))) for name in names)


def _attachment(report: Report, name: str, options: WritingOptions) -> Attachment:
    attached = output_format(name)
    stream = private_file()
    attachment = Attachment(f"groups-{day_of(report)}.{attached.ending}", attached.media_type, stream)
    with write_errors(temporary_directory()):
        render_bytes(report, name, stream, **options)
    return attachment
