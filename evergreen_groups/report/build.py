"""The nightly report: groups whose members together owe a lot, for information only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.groups import (
    Group,
    GroupReader,
    GroupSearch,
    HighFines,
    PatronRow,
    PatronState,
    without_collecting,
)
from evergreen_groups.ils import (
    VIEW_CIRCULATIONS,
    VIEW_USER,
    VIEW_USER_TRANSACTIONS,
    Access,
    LimitFinder,
    Limits,
    OrgUnits,
    PenaltyKinds,
    UniformLimit,
    highest_granted,
)
from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent
from evergreen_groups.report.blocks import FinesBlocks, PackedBlocks, blocks_of, read_block_rows
from evergreen_groups.report.models import Chooser, Criteria, Report, Totals
from evergreen_groups.settings import PolicySettings

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.report.details import DetailReader, DetailRows, ReportDetails

_LAST = float("inf")


def refuse_without_details(criteria: Criteria) -> None:
    """Look whether the criteria need what they say isn't to be read.

    Raises:
        ConfigurationError: they do.
    """
    if not criteria.details and (criteria.choice.needs_details or criteria.sort == "age"):
        raise ConfigurationError(
            "groups can be chosen, or sorted by the age of what they owe, only where the report reads what "
            "members owe for",
            advice='with details = "full" it does',
            setting="report.details",
            code="choice-without-details",
        )


def meeting_sums(groups: Iterable[Group], criteria: Criteria) -> list[Group]:
    """The groups that are large enough and owe enough, or may owe enough as far as the account can see.

    Even of groups that the ILS found it's looked at once more: a balance may have changed since it did its sums.
    """
    return [
        group
        for group in groups
        if group.member_count >= criteria.min_members
        and (group.known_fines >= criteria.min_total or group.hidden_fines is None)
    ]


def chosen(report: Report, criteria: Criteria) -> Report:
    """The report of those of its groups that meet the criteria, which must not be wider than its own.

    A group of which it isn't known whether it fits a choice isn't listed; a note says how many those are. Org units
    are left to :func:`for_libraries`.

    Raises:
        ConfigurationError: the criteria name a profile that isn't there, or need details that weren't read.
    """
    refuse_without_details(replace(criteria, details=report.details is not None))
    groups = meeting_sums(report.groups, criteria)
    notes = report.notes
    if criteria.choice.document():
        chooser = Chooser(criteria.choice, report.details, _blocks(report), report.generated_at)
        verdicts = [(group, chooser.fits(group)) for group in groups]
        groups = [group for group, fits in verdicts if fits]
        unknown = sum(fits is None for _group, fits in verdicts)
        if unknown:
            more = Message(
                "Not listed: {count} more that owes enough, and may fit as far as the account can see.",
                plural="Not listed: {count} more that owe enough, and may fit as far as the account can see.",
                values={"count": unknown},
            )
            notes = (*notes, more)
    # The highest fines first, of equal ones the lowest number; in two steps, so that no sums are made to sort by.
    groups.sort(key=attrgetter("number"))
    groups.sort(key=attrgetter("known_fines"), reverse=True)
    count = len(groups) if criteria.top is None else criteria.top
    listed = sorted(groups[:count], key=_sort_key(criteria.sort, report.details))
    left_out = tuple(groups[count:])
    return replace(
        report,
        criteria=criteria,
        groups=tuple(listed),
        totals=Totals.of(listed),
        notes=notes,
        left_out_count=len(left_out),
        left_out=left_out,
    )


def _blocks(report: Report) -> FinesBlocks:
    if report.blocks is None:
        raise ValueError("a report is chosen from with its blocks")
    return report.blocks


def _sort_key(sort: str, details: ReportDetails | None) -> Callable[[Group], tuple[object, ...]]:
    def age(group: Group) -> tuple[object, ...]:
        since = details.of_group(group).owing_since if details is not None else None
        return (_LAST if since is None else since.timestamp(),)

    keys: dict[str, Callable[[Group], tuple[object, ...]]] = {
        "total": lambda _group: (),
        "members": lambda group: (-group.member_count,),
        "name": lambda group: (name_key(group.lead.name),),
        "library": lambda group: (name_key(group.library),),
        "age": age,
    }
    return keys[sort]


_MOST_DATES = 10
"""So many dates that can't be read have a note; the log has all of them."""


def build_report(
    gateway: Gateway,
    criteria: Criteria,
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    now: datetime | None = None,
) -> Report:
    """Read the groups that meet ``criteria`` and add up what they owe.

    ``policy`` says which limit counts for whom where ``criteria`` has none for everybody. ``now`` is the report's
    timestamp (default: this machine's time).

    Raises:
        ConfigurationError: ``criteria`` names an org unit that isn't there, or a limit a profile or library.
        PermissionDeniedError: the account sees no patrons.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    with without_collecting():
        return _build(gateway, criteria, progress, policy or PolicySettings(), now or datetime.now(UTC))


def _build(gateway: Gateway, criteria: Criteria, progress: Progress, policy: PolicySettings, now: datetime) -> Report:
    refuse_without_details(criteria)
    unreadable_before = len(gateway.statistics.unreadable_dates)
    readers: tuple[Callable[[Gateway, Criteria], Any], ...] = (_org_units, _granted)
    org_units, granted = gateway.map(lambda read: read(gateway, criteria), readers)
    home_orgs = _home_orgs(criteria, org_units)
    access = Access.read(gateway, org_units, granted[VIEW_USER])
    # Nobody waits for these before the search has found somebody.
    reading_kinds = gateway.begin(lambda: PenaltyKinds.read(gateway, org_units))
    reading_limits = gateway.begin(lambda: _limits(gateway, criteria, policy, org_units))
    reading_details = gateway.begin(lambda: _detail_reader(gateway, criteria, org_units, granted))
    if criteria.choice.profiles:
        reading_details.result()  # a wrong name is found out before all is read
    reader = GroupReader(gateway, org_units, access, progress=progress)
    high_fines = HighFines(
        min_total=criteria.min_total,
        more_than_one=criteria.min_members > 1,
        home_orgs=home_orgs,
        visible_orgs=() if access.everywhere else access.visible_orgs,
    )

    states: dict[int, PatronState] = {}

    def complete(rows: Sequence[PatronRow]) -> list[_Part]:
        readers: tuple[Callable[[], Any], ...] = (
            lambda: reader.deciding_by(reading_limits.result()).complete(rows),
            lambda: read_block_rows(gateway, reading_kinds.result(), [row.id for row in rows]),
            lambda: _detail_rows(reading_details.result(), rows),
        )
        groups, block_rows, found = gateway.map(lambda read: read(), readers)
        meeting = meeting_sums(groups, criteria)
        members = {member.id: member for group in meeting for member in group.members}
        detail_reader = reading_details.result()
        if detail_reader is not None:
            detail_reader.add(members.values(), found, states)
        listed_rows = [row for row in block_rows if row.patron in members]
        return [_Part(meeting, blocks_of(listed_rows, reading_kinds.result(), org_units))]

    search = GroupSearch(gateway, high_fines, progress, states=states if criteria.details else None)
    parts = search.run(complete, lambda found, numbers: [part.without(numbers) for part in found])
    kinds, detail_reader = reading_kinds.result(), reading_details.result()
    reading_limits.result()  # limits that can't be are an error also where nobody is found
    meeting = [group for part in parts for group in part.groups]
    penalties = PackedBlocks(chain.from_iterable(theirs for part in parts for theirs in part.blocks.values()))
    details = None if detail_reader is None else detail_reader.details()
    del parts
    report = Report(
        generated_at=now.astimezone(),
        gateway=gateway.url,
        criteria=criteria,
        groups=tuple(meeting),
        totals=Totals.of(()),
        org_units=tuple(org_units),
        hidden_libraries=frozenset(unit.shortname for unit in org_units if unit.id not in access.visible_orgs),
        blocks=FinesBlocks(penalties, kinds),
        details=details,
    )
    report = chosen(report, criteria)
    if len(report.groups) < len(meeting):
        report = replace(report, blocks=FinesBlocks(penalties, kinds).of_members(report.groups))
    notes = [*_notes(access, report.groups), *report.notes]
    if detail_reader is not None and details is not None:
        notes += detail_reader.notes(report.groups, details)
    unreadable = gateway.statistics.unreadable_dates[unreadable_before:]
    notes += [_unreadable(*date) for date in unreadable[:_MOST_DATES]]
    return replace(report, notes=tuple(notes))


def _unreadable(class_id: str, key: object, field: str) -> Message:
    return Message(
        "The date in the field {field} of the record {name} {id} can't be read and counts as unknown.",
        values={"field": field, "name": class_id, "id": str(key)},
    )


def _detail_reader(
    gateway: Gateway, criteria: Criteria, org_units: OrgUnits, granted: Mapping[str, Sequence[int]]
) -> DetailReader | None:
    if not criteria.details:
        return None
    # With it come bills and items, which a report of sums needn't load.
    from evergreen_groups.report.details import DetailReader

    reader = DetailReader(gateway, org_units, granted)
    reader.profiles.named(criteria.choice.profiles)  # raises for a wrong name
    return reader


def _detail_rows(reader: DetailReader | None, rows: Sequence[PatronRow]) -> DetailRows | None:
    return None if reader is None else reader.read(rows)


class _Part(NamedTuple):
    """What was read of some groups, those that owe enough alone; blocks for fines are by patron's id."""

    groups: list[Group]
    blocks: PackedBlocks

    def without(self, numbers: Collection[int]) -> _Part:
        """The same without groups that have these numbers; what else is of their members is of nobody listed."""
        gone = {member.id for group in self.groups if group.number in numbers for member in group.members}
        return _Part(
            [group for group in self.groups if group.number not in numbers],
            PackedBlocks(chain.from_iterable(theirs for id, theirs in self.blocks.items() if id not in gone)),
        )


def _limits(gateway: Gateway, criteria: Criteria, policy: PolicySettings, org_units: OrgUnits) -> LimitFinder:
    """The criteria's one limit, or those of the policy."""
    if criteria.limit is not None:
        return UniformLimit(criteria.limit)
    return UniformLimit(policy.as_limit()) if policy.uniform else Limits.read(gateway, policy, org_units)


def _granted(gateway: Gateway, criteria: Criteria) -> dict[str, list[int]]:
    more = (VIEW_USER_TRANSACTIONS, VIEW_CIRCULATIONS) if criteria.details else ()
    return highest_granted(gateway, [VIEW_USER, *more])


def _org_units(gateway: Gateway, criteria: Criteria) -> OrgUnits:
    more = ("mobts", "mb", "circ", "pgt") if criteria.details else ()
    gateway.idl("au", "aou", "mous", "ac", "ausp", "csp", *more)
    return OrgUnits.read(gateway)


def _home_orgs(criteria: Criteria, org_units: OrgUnits) -> frozenset[int]:
    """The ids of the home libraries asked for; none where they are all asked for."""
    chosen = org_units.named(criteria.orgs)
    return frozenset() if len(chosen) == sum(1 for _ in org_units) else frozenset(chosen)


def _notes(access: Access, listed: Sequence[Group]) -> list[Message]:
    missing = {"permission": VIEW_USER, "libraries": access.missing_names}
    notes = []
    incomplete = sum(not group.complete for group in listed)
    if incomplete:
        notes.append(
            Message(
                "Incomplete: {count} of {all:,} groups has members whom the account can't see. "
                "It lacks {permission} at {libraries}.",
                plural="Incomplete: {count} of {all:,} groups have members whom the account can't see. "
                "It lacks {permission} at {libraries}.",
                values={"count": incomplete, "all": len(listed), **missing},
            )
        )
    if not access.everywhere:
        notes.append(
            Message(
                "Groups with no visible member are not listed: the account lacks {permission} at {libraries}.",
                values=missing,
            )
        )
    return notes
