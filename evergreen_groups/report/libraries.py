"""Split a report by library.

A group belongs to the home library of each of its members, and to everything above; ``Criteria.orgs`` works the same
way. A group may be in several parts, so don't add up the totals of parts. Hidden members' home libraries are unknown: a
library that the account can't see only gets the groups of visible members. The notes, which every part keeps, name
these libraries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evergreen_groups.ils import OrgUnits
from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.report.models import Report, Totals

if TYPE_CHECKING:
    from evergreen_groups.groups import Group

HIDDEN_PATRONS = Message("The report's account lacks {permission} at {libraries}, so it can't see patrons there.")
"""The only note that is as true in a part."""


@dataclass(frozen=True, slots=True)
class ReportedLibrary:
    """An org unit that gets its own part of the report.

    ``name`` is empty if the report doesn't have it. ``depth`` counts the reported org units above. This isn't an
    :class:`~evergreen_groups.ils.OrgUnit`, because a member's home library may be known by its short name only.
    """

    shortname: str
    name: str
    depth: int


def reported_libraries(report: Report) -> tuple[ReportedLibrary, ...]:
    """Return the libraries that get a part. Parents come before children, siblings are sorted by short name.

    These are all org units at or below those in ``report.criteria``, with or without groups; other org units aren't
    complete in the report. Home libraries that are missing in ``report.org_units`` get a part as well.
    """
    upwards = OrgUnits.shortnames_upwards(report.org_units)
    asked_for = {shortname.casefold() for shortname in report.criteria.orgs}
    names = {unit.shortname: unit.name for unit in report.org_units}
    found = {
        shortname: path
        for shortname, path in upwards.items()
        if not asked_for or any(above.casefold() in asked_for for above in path)
    }
    ordered = sorted(found.items(), key=lambda item: [name_key(above) for above in reversed(item[1])])
    known = [ReportedLibrary(name, names[name], sum(above in found for above in path[1:])) for name, path in ordered]
    if upwards and asked_for:
        return tuple(known)
    unknown = {home for group in report.groups for home in _homes(group)} - upwards.keys()
    return (*known, *[ReportedLibrary(shortname, "", 0) for shortname in sorted(unknown, key=name_key)])


def by_library(report: Report) -> dict[str, Report]:
    """Return the part of each of the :func:`reported_libraries`, by short name. Notes are the whole report's."""
    upwards = OrgUnits.shortnames_upwards(report.org_units)
    groups: dict[str, list[Group]] = {library.shortname: [] for library in reported_libraries(report)}
    for group in report.groups:
        for shortname in {above for home in _homes(group) for above in upwards.get(home, (home,))} & groups.keys():
            groups[shortname].append(group)
    return {
        shortname: _part(report, found, (shortname,), _at_or_below(upwards, (shortname,)))
        for shortname, found in groups.items()
    }


def for_libraries(report: Report, shortnames: Collection[str]) -> Report:
    """Return the part for several libraries and everything below them."""
    homes = _at_or_below(OrgUnits.shortnames_upwards(report.org_units), shortnames)
    return _part(report, [group for group in report.groups if _homes(group) & homes], tuple(shortnames), homes)


def note_in_part(note: str) -> Message:
    """Return a note of the whole report for a part: it may count groups of the whole report."""
    if isinstance(note, Message) and note.text == HIDDEN_PATRONS.text:
        return note
    return Message("Overall: {note}", values={"note": note})


def _homes(group: Group) -> set[str]:
    return {member.library for member in group.members}


def _at_or_below(upwards: Mapping[str, tuple[str, ...]], shortnames: Collection[str]) -> set[str]:
    """Return these org units, whatever their case, and everything below. Unknown short names are returned as well."""
    wanted = {shortname.casefold() for shortname in shortnames}
    found = {shortname for shortname, path in upwards.items() if any(above.casefold() in wanted for above in path)}
    return found.union(shortnames)


def _part(report: Report, groups: Sequence[Group], shortnames: tuple[str, ...], homes: set[str]) -> Report:
    """Return the report of these groups, which must have members with a home library in ``homes``."""
    left_out = tuple(group for group in report.left_out if _homes(group) & homes)
    # Trends are recorded by org unit, so several together have none.
    trend_of = shortnames[0] if len(shortnames) == 1 else None
    changes = report.changes and report.changes.restricted([group.number for group in groups], homes, trend_of)
    notes = report.notes
    if len(groups) < len(report.groups) or not groups:
        notes = tuple(map(note_in_part, notes))
    return replace(
        report,
        criteria=replace(report.criteria, orgs=shortnames),
        groups=tuple(groups),
        contacts=report.contacts and {one.number: report.contacts[one.number].for_libraries(homes) for one in groups},
        totals=Totals.of(groups),
        notes=notes,
        left_out_count=len(left_out),
        left_out=left_out,
        changes=changes,
    )
