"""A report in parts: for each library the groups that concern it.

A group concerns every library where one of its members is at home, and all that stands above these, which is what
``Criteria.orgs`` means as well. So one group may be in several parts, and sums of parts mustn't be added up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from evergreen_groups.models import GroupFines, OrgUnit, Report, Totals


@dataclass(frozen=True, slots=True)
class Library:
    """An org unit that gets a part of the report.

    ``name`` is empty where the report doesn't tell it; ``depth`` is how many others of them stand above this one.
    """

    shortname: str
    name: str
    depth: int


def libraries(report: Report) -> tuple[Library, ...]:
    """The libraries that get a part: each stands before those below it, neighbours are sorted by short name.

    They are all org units at or below those that ``report.criteria`` asks for, whether they have groups or not: of
    others the report doesn't know every group. A home library that ``report.org_units`` lacks gets a part as well.
    """
    tree = _Tree(report.org_units)
    asked_for = {shortname.casefold() for shortname in report.criteria.orgs}
    found = tuple(tree.walk(asked_for))
    if report.org_units and asked_for:
        return found
    strangers = {home for group in report.groups for home in _homes(group)} - tree.shortnames
    return (*found, *[Library(shortname, "", 0) for shortname in sorted(strangers)])


def by_library(report: Report) -> dict[str, Report]:
    """The part of each of the :func:`libraries`, by short name.

    Its groups, totals and changes are its own; its notes are the report's.
    """
    tree = _Tree(report.org_units)
    groups: dict[str, list[GroupFines]] = {library.shortname: [] for library in libraries(report)}
    for group in report.groups:
        for shortname in {above for home in _homes(group) for above in tree.above(home)} & groups.keys():
            groups[shortname].append(group)
    return {shortname: _part(report, tree, found, (shortname,)) for shortname, found in groups.items()}


def for_libraries(report: Report, shortnames: Collection[str]) -> Report | None:
    """The part for several libraries and everything below them.

    None where no group concerns them now and none that did was cleared.
    """
    tree = _Tree(report.org_units)
    homes = tree.below(shortnames)
    part = _part(report, tree, [group for group in report.groups if _homes(group) & homes], tuple(shortnames))
    return part if part.groups or (part.changes and part.changes.cleared) else None


class _Tree:
    """The org units by short name; one that isn't among them stands alone."""

    def __init__(self, org_units: tuple[OrgUnit, ...]) -> None:
        self._by_id = {unit.id: unit for unit in org_units}
        self._children: dict[int | None, list[OrgUnit]] = {}
        for unit in sorted(org_units, key=lambda unit: unit.shortname.casefold()):
            self._children.setdefault(unit.parent, []).append(unit)
        self._above = {unit.shortname: tuple(self._upwards(unit)) for unit in org_units}
        self.shortnames = frozenset(self._above)

    def above(self, shortname: str) -> tuple[str, ...]:
        """An org unit and all above it."""
        return self._above.get(shortname, (shortname,))

    def below(self, shortnames: Collection[str]) -> set[str]:
        """These org units, however they are capitalised, and all below them."""
        wanted = {shortname.casefold() for shortname in shortnames}
        below = {
            shortname for shortname, above in self._above.items() if any(one.casefold() in wanted for one in above)
        }
        return below.union(shortnames)

    def walk(self, asked_for: Collection[str], parent: int | None = None, depth: int = 0) -> Iterator[Library]:
        """The org units at or below those asked for (none: all), each before its children."""
        for unit in self._children.get(parent, ()):
            if not asked_for or unit.shortname.casefold() in asked_for:
                yield Library(unit.shortname, unit.name, depth)
                yield from self.walk((), unit.id, depth + 1)
            else:
                yield from self.walk(asked_for, unit.id, depth)

    def _upwards(self, unit: OrgUnit | None) -> Iterator[str]:
        passed = set()
        while unit is not None and unit.id not in passed:
            passed.add(unit.id)
            yield unit.shortname
            unit = self._by_id.get(unit.parent) if unit.parent is not None else None


def _homes(group: GroupFines) -> set[str]:
    return {member.library for member in group.members}


def _part(report: Report, tree: _Tree, groups: Iterable[GroupFines], shortnames: tuple[str, ...]) -> Report:
    groups = tuple(groups)
    homes = tree.below(shortnames)
    left_out = tuple(group for group in report.left_out if _homes(group) & homes)
    changes = report.changes
    if changes and not (tree.shortnames and tree.shortnames <= homes):
        trend_of = shortnames[0] if len(shortnames) == 1 else None
        changes = changes.restricted([group.group for group in groups], homes, trend_of)
    notes = report.notes
    if len(groups) < len(report.groups):
        notes = tuple(f"Of the whole report: {note}" for note in notes)
    return replace(
        report,
        criteria=replace(report.criteria, orgs=shortnames),
        groups=groups,
        totals=Totals.of(groups, report.criteria.limit),
        notes=notes,
        left_out_count=len(left_out),
        left_out=left_out,
        changes=changes,
    )
