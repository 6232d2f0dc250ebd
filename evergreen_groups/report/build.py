"""Build the nightly report: groups with high combined fines or unreturned items, for information only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.groups import GroupReader, GroupSearch, PatronState, search
from evergreen_groups.ils import (
    VIEW_USER,
    Access,
    KindNames,
    Limits,
    OrgUnits,
    PenaltyKinds,
    permissions,
    rows_in_force,
)
from evergreen_groups.language import name_key
from evergreen_groups.message import Message, Progress, silent
from evergreen_groups.report.contact import ContactReader
from evergreen_groups.report.details import DetailReader, ReportDetails
from evergreen_groups.report.items import ItemReader, ReportItems
from evergreen_groups.report.libraries import HIDDEN_PATRONS, for_libraries, note_in_part
from evergreen_groups.report.models import Criteria, FinesBlocks, Report, Totals, matches
from evergreen_groups.settings import PolicySettings
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, ItemCondition, PatronRow
    from evergreen_groups.ils import PenaltyRow
    from evergreen_groups.report.details import MemberDetails

_NEVER = float("inf")


def require_details(criteria: Criteria) -> None:
    """Raise ConfigurationError if a choice or the sort order needs details that ``criteria`` turn off."""
    if not criteria.details and (criteria.choice.needs_details or criteria.sort == "age"):
        raise ConfigurationError(
            "filters, and sorting by age, need the report's details",
            advice='set details = "full"',
            setting="report.details",
            code="choice-without-details",
        )


def _require_kinds(gateway: Gateway, wanted: Iterable[Criteria]) -> None:
    """Raise ConfigurationError if a choice names a kind of bill that doesn't exist: no group could match."""
    names = [name for criteria in wanted for name in criteria.choice.kinds]
    KindNames.read(gateway, names).check(names)


def _owes_enough(group: Group, criteria: Criteria) -> bool:
    """Return whether a group owes enough (balances may have changed), or has hidden fines."""
    return criteria.asks_for_fines and (group.known_fines >= criteria.min_total or group.hidden_fines is None)


def _has_items(group: Group, criteria: Criteria, items: ReportItems | None) -> bool:
    """Return whether a group has enough overdue or lost items."""
    return items is not None and criteria.asks_for_items and items.enough(group, criteria.item_conditions)


def with_enough(groups: Iterable[Group], criteria: Criteria, items: ReportItems | None) -> list[Group]:
    """Return the groups with enough members, and enough fines or items."""
    return [
        group
        for group in groups
        if group.member_count >= criteria.min_members
        and (_owes_enough(group, criteria) or _has_items(group, criteria, items))
    ]


def apply_criteria(report: Report, criteria: Criteria) -> Report:
    """Narrow a report to the groups that meet the criteria, which mustn't be wider than the report's own.

    Leave out groups that may or may not match because of hidden data, and add a note with their number. Org units are
    handled by :func:`for_libraries`. Raises ConfigurationError for an unknown profile, or details that weren't read.
    """
    require_details(replace(criteria, details=report.details is not None))
    items = report.items if criteria.asks_for_items else None
    groups = with_enough(report.groups, criteria, items)
    notes = report.notes
    if criteria.choice.document():
        blocks = report.blocks
        if blocks is None:
            raise ValueError("a report is chosen from with its blocks")

        def verdict(group: Group) -> bool | None:
            # What is owed for doesn't matter for groups that are listed for their items.
            choice = criteria.choice.of_groups if _has_items(group, criteria, items) else criteria.choice
            return matches(choice, group, blocks, report.details, report.generated_at)

        verdicts = list(map(verdict, groups))
        groups = [group for group, verdict in zip(groups, verdicts, strict=True) if verdict]
        unknown = verdicts.count(None)
        if unknown:
            more = Message(
                "Not listed: {count} more group that may match, which this account can't fully see.",
                plural="Not listed: {count} more groups that may match, which this account can't fully see.",
                values={"count": unknown},
            )
            notes = (*notes, more)
    # Sort by highest fines, then lowest number. Two stable sorts avoid creating a negated amount for each group.
    groups.sort(key=attrgetter("number"))
    groups.sort(key=attrgetter("known_fines"), reverse=True)
    if items is not None and not criteria.asks_for_fines:
        groups.sort(key=items.most_first(criteria))
    count = len(groups) if criteria.top is None else criteria.top
    listed = sorted(groups[:count], key=_sort_key(criteria.sort, report.details))
    left_out = tuple(groups[count:])
    details = report.details and replace(report.details, age_bands=criteria.age_bands, at=report.generated_at)
    return replace(
        report,
        criteria=criteria,
        details=details,
        items=items,
        contacts=report.contacts if criteria.contact else None,
        groups=tuple(listed),
        totals=Totals.of(listed),
        notes=notes,
        left_out_count=len(left_out),
        left_out=left_out,
    )


def _sort_key(sort: str, details: ReportDetails | None) -> Callable[[Group], tuple[object, ...]]:
    def age(group: Group) -> tuple[object, ...]:
        since = details.of_group(group).owing_since if details is not None else None
        return (_NEVER if since is None else since.timestamp(),)

    keys: dict[str, Callable[[Group], tuple[object, ...]]] = {
        "total": lambda _group: (),
        "members": lambda group: (-group.member_count,),
        "name": lambda group: (name_key(group.lead.name),),
        "library": lambda group: (name_key(group.library),),
        "age": age,
    }
    return keys[sort]


_MAX_DATES = 10
"""How many unreadable dates get a note. The log lists all of them."""


def build_report(
    gateway: Gateway,
    criteria: Criteria,
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    now: datetime | None = None,
    groups: Collection[int] | None = None,
) -> Report:
    """Read the groups that meet ``criteria`` and add up what they owe.

    ``policy`` determines limits if ``criteria`` has none. ``now`` is the report's timestamp (default: this machine's
    time). ``groups`` are the numbers of groups to choose from (None: all groups).

    Raises:
        ConfigurationError: ``criteria`` names an unknown org unit, or a limit names an unknown profile or library.
        PermissionDeniedError: the account sees no patrons.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    return read_reports(gateway, (criteria,), progress, policy=policy, now=now, groups=groups)[0]


@search.gc_paused()
def read_reports(
    gateway: Gateway,
    wanted: Sequence[Criteria],
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    now: datetime | None = None,
    groups: Collection[int] | None = None,
) -> list[Report]:
    """Return a report for each of the criteria, in order, from one reading. Raises what :func:`build_report` raises."""
    criteria = wanted[0] if len(wanted) == 1 else combined_criteria(wanted)
    require_details(criteria)
    conditions = {condition for one in (criteria, *wanted) for condition in one.item_conditions}
    reading = _Reading(gateway, criteria, policy or PolicySettings(), progress, conditions)
    _require_kinds(gateway, wanted)
    report = reading.report(reading.batches(groups), now or datetime.now(UTC))
    if len(wanted) == 1:
        return [report]
    for one in wanted:
        reading.org_units.named(one.orgs)  # an unknown library would silently select nothing
    return [_selected(report, one) for one in wanted]


class _Batch(NamedTuple):
    """Groups that were read together, and what was read of their members: details by patron id, and penalties."""

    groups: list[Group]
    details: dict[int, MemberDetails]
    penalties: list[PenaltyRow]
    items: ReportItems | None

    @classmethod
    def of(
        cls,
        groups: list[Group],
        details: Mapping[int, MemberDetails],
        penalties: Iterable[PenaltyRow],
        items: ReportItems | None,
    ) -> _Batch:
        """Make a batch of these groups. Details, penalties and items of other patrons are left out."""
        members = {member.id for group in groups for member in group.members}
        return cls(
            groups,
            {patron: details[patron] for patron in members if patron in details},
            [row for row in penalties if row.patron in members],
            items and items.of_groups(groups),
        )

    def without(self, numbers: Collection[int]) -> _Batch:
        """Return the batch without the groups with these numbers."""
        groups = [group for group in self.groups if group.number not in numbers]
        return _Batch.of(groups, self.details, self.penalties, self.items)


class _Reading:
    """One reading of the groups that meet ``criteria``, in stages.

    Creating it reads what applies to all groups, and begins to read what only their members need. :meth:`batches` reads
    the groups, several batches at once. :meth:`report` puts everything together.
    """

    def __init__(
        self,
        gateway: Gateway,
        criteria: Criteria,
        policy: PolicySettings,
        progress: Progress,
        conditions: Collection[ItemCondition],
    ) -> None:
        self._gateway, self._criteria, self._progress = gateway, criteria, progress
        self._started = datetime.now(UTC)
        # The gateway collects unreadable dates of all calls. Only those of this report get notes.
        self._unreadable_before = len(gateway.statistics.unreadable_dates)
        of_details = (
            *([permissions.VIEW_USER_TRANSACTIONS] if criteria.details else []),
            *([permissions.VIEW_CIRCULATIONS] if criteria.details or conditions else []),
        )
        self.org_units, granted = gateway.in_parallel(
            lambda: _read_org_units(gateway, criteria),
            lambda: permissions.highest_granted(gateway, [VIEW_USER, *of_details]),
        )
        self._libraries = self.org_units.named(criteria.orgs)
        self._access = Access.read(gateway, self.org_units, granted[VIEW_USER])
        self._visible_orgs = () if self._access.everywhere else self._access.visible_orgs
        self._reader = GroupReader(gateway, self.org_units, self._access, progress=progress)
        # Only the first batch needs these, so read them while the search looks for it.
        self._kinds = gateway.begin(partial(PenaltyKinds.read, gateway, self.org_units))
        self._limits = gateway.begin(
            partial(Limits.read, gateway, policy, self.org_units)
            if criteria.limit is None
            else partial(Limits.of, criteria.limit)
        )
        self._details = gateway.begin(
            lambda: (
                DetailReader(gateway, self.org_units, granted, criteria.choice.profiles, copies=bool(conditions))
                if criteria.details
                else None
            )
        )
        self._items = gateway.begin(
            lambda: (
                ItemReader(gateway, self.org_units, granted, conditions, self._visible_orgs, self._started)
                if conditions
                else None
            )
        )
        if criteria.choice.profiles:
            self._details.result()  # reports a wrong name before reading everything
        self._contacts = ContactReader(gateway, criteria.contact)
        self._states: dict[int, PatronState] = {}
        """By patron id, until the details of the patron's group are read."""

    def batches(self, numbers: Collection[int] | None) -> list[_Batch]:
        """Read the groups with these numbers, or search for all that may meet the criteria."""
        criteria = self._criteria
        query = search.query_for(
            criteria.min_total,
            criteria.item_conditions,
            self._started,
            # The query can only tell one member from several. with_enough applies the exact minimum.
            more_than_one=criteria.min_members > 1,
            homes=frozenset() if len(self._libraries) == len(self.org_units) else frozenset(self._libraries),
            visible_orgs=self._visible_orgs,
        )
        extra = (*PatronState.FIELDS, *self._contacts.fields) if criteria.details or criteria.contact else ()
        found = GroupSearch(self._gateway, query, self._progress, extra_fields=extra, take=self._take_person)
        if numbers is not None:
            return found.read(numbers, self._read_batch)
        return found.run(self._read_batch, lambda batches, gone: [batch.without(gone) for batch in batches])

    def _take_person(self, patron: int, values: Sequence[Any]) -> None:
        of_state = len(PatronState.FIELDS)
        state = self._states[patron] = PatronState.of(values[:of_state], self._started)
        if self._criteria.contact:
            self._contacts.add_person(patron, state.juvenile, values[of_state:])

    def _read_batch(self, rows: Sequence[PatronRow]) -> list[_Batch]:
        """Make groups of the rows of all their members, and read the members' details and penalties."""
        details, item_reader = self._details.result, self._items.result
        built, penalties, found, only_items = self._gateway.in_parallel(
            lambda: self._reader.with_limits(self._limits.result()).build_groups(rows),
            lambda: self._read_penalties([row.id for row in rows]),
            lambda: reader.read(rows) if (reader := details()) else None,
            lambda: items.read(rows) if details() is None and (items := item_reader()) else None,
        )
        bills, of_patrons = found or ({}, only_items)
        items = None if (reader := item_reader()) is None else reader.of_groups(built, of_patrons)
        groups, of_members = with_enough(built, self._criteria, items), {}
        if (detail_reader := details()) is not None:
            members = [member for group in groups for member in group.members]
            of_members = detail_reader.of_members(members, bills, of_patrons, self._states)
        return [_Batch.of(groups, of_members, penalties, items)]

    def _read_penalties(self, patrons: list[int]) -> list[PenaltyRow]:
        """Read these patrons' blocks for fines, in lists of up to 3,000, and the penalties that contacts depend on."""
        kinds = self._kinds.result()
        wanted = sorted(kinds.blocking_for_fines_anywhere | self._contacts.penalties(kinds))
        # If no kind blocks, no patron is blocked. An empty list of kinds would be a server error (pcrud-015).
        return list(rows_in_force(self._gateway, patrons, kinds=wanted, all_visible=True)) if wanted else []

    def report(self, batches: Sequence[_Batch], now: datetime) -> Report:
        """Return the report of the groups that meet the criteria, with notes about what is missing."""
        kinds, reader = self._kinds.result(), self._details.result()
        self._limits.result()  # report invalid limits even if no group was found
        rows = [row for batch in batches for row in batch.penalties]
        blocks = [row for row in rows if row.kind in kinds.blocking_for_fines_anywhere]
        in_force = FinesBlocks(kinds.by_patron(blocks, self.org_units, {row.patron for row in blocks}), kinds)
        details = {patron: one for batch in batches for patron, one in batch.details.items()}
        visible = self._access.visible_orgs
        report = Report(
            generated_at=now.astimezone(),
            gateway=self._gateway.url,
            criteria=self._criteria,
            groups=tuple(group for batch in batches for group in batch.groups),
            totals=Totals.of(()),
            org_units=tuple(self.org_units),
            hidden_libraries=frozenset(unit.shortname for unit in self.org_units if unit.id not in visible),
            blocks=in_force,
            details=None if reader is None else ReportDetails(details, reader.profiles),
            items=None if (items := self._items.result()) is None else items.combined(batch.items for batch in batches),
        )
        report = apply_criteria(report, self._criteria)
        missing = {"permission": VIEW_USER, "libraries": self._access.missing_names}
        notes = [*([] if self._access.everywhere else [HIDDEN_PATRONS.with_values(missing)]), *report.notes]
        members = [member.id for group in report.groups for member in group.members]
        if reader is not None:
            notes += reader.notes({patron: details[patron] for patron in members})
        elif items is not None and report.items is not None:
            notes += items.notes([report.items.members[patron] for patron in members])
        unreadable = self._gateway.statistics.unreadable_dates[self._unreadable_before :]
        notes += [
            Message(
                "{name} {id} has an unreadable date in {field}, which counts as unknown.",
                values={"field": field, "name": class_id, "id": str(key)},
            )
            for class_id, key, field in unreadable[:_MAX_DATES]
        ]
        report = replace(report, blocks=in_force.of_members(report.groups), notes=tuple(notes))
        return self._with_contacts(report, kinds, rows) if self._criteria.contact else report

    def _with_contacts(self, report: Report, kinds: PenaltyKinds, penalties: Iterable[PenaltyRow]) -> Report:
        """Add the contacts. A report of some libraries is for their staff."""
        self._contacts.add_penalties(penalties)
        self._contacts.finish(report.groups, kinds)
        known = {group.number: self._contacts.of_group(group) for group in report.groups}
        libraries = {unit.shortname for unit in report.org_units if unit.id in self._libraries or not self._libraries}
        shown = {number: contact.for_libraries(libraries) for number, contact in known.items()}
        return replace(report, contacts=shown, known_contacts=known)


def combined_criteria(wanted: Sequence[Criteria]) -> Criteria:
    """Return criteria that include every group which meets any of ``wanted``.

    >>> combined_criteria([Criteria(), Criteria(orgs=("BR1",), top=3)]).orgs
    ()
    """
    orgs = {name: None for criteria in wanted for name in criteria.orgs}
    by_fines = [criteria.min_total for criteria in wanted if criteria.asks_for_fines]
    overdue = [(criteria.min_overdue, criteria.overdue_days) for criteria in wanted if criteria.min_overdue]
    return Criteria(
        min_total=min(by_fines, default=ZERO),
        min_overdue=min((least for least, _days in overdue), default=0),
        overdue_days=min((days for _least, days in overdue), default=0),
        min_lost=min((criteria.min_lost for criteria in wanted if criteria.min_lost), default=0),
        min_members=min(criteria.min_members for criteria in wanted),
        orgs=tuple(orgs) if all(criteria.orgs for criteria in wanted) else (),
        limit=wanted[0].limit,
        details=any(criteria.details for criteria in wanted),
        contact=any(criteria.contact for criteria in wanted),
    )


def _selected(everything: Report, criteria: Criteria) -> Report:
    part = for_libraries(everything, criteria.orgs) if criteria.orgs else everything
    found = apply_criteria(replace(part, notes=everything.notes), criteria)
    if len(found.groups) == len(everything.groups):
        return found
    notes = (note_in_part(note) if note in everything.notes else note for note in found.notes)
    return replace(found, notes=tuple(notes))


def _read_org_units(gateway: Gateway, criteria: Criteria) -> OrgUnits:
    # All classes in one request instead of one at a time.
    of_details = ("mobts", "mb", "circ", "pgt") if criteria.details else ()
    of_items = ("circ", "acp", "acn") if criteria.asks_for_items else ()
    of_contacts = ("aua",) if criteria.contact else ()
    gateway.idl("au", "aou", "mous", "ac", "ausp", "csp", *of_details, *of_items, *of_contacts)
    return OrgUnits.read(gateway)
