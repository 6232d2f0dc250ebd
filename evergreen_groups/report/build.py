"""Build the nightly report: groups with high combined fines, for information only."""

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
    gc_paused,
)
from evergreen_groups.ils import (
    VIEW_CIRCULATIONS,
    VIEW_USER,
    VIEW_USER_TRANSACTIONS,
    Access,
    Limits,
    OrgUnits,
    PenaltyKinds,
    highest_granted,
)
from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent
from evergreen_groups.report.blocks import FinesBlocks, read_block_rows
from evergreen_groups.report.models import Chooser, Criteria, Report, Totals
from evergreen_groups.settings import PolicySettings

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Penalty
    from evergreen_groups.report.details import DetailReader, DetailRows, ReportDetails

_NEVER = float("inf")


def require_details(criteria: Criteria) -> None:
    """Check that ``criteria`` only use details if they are read.

    Raises:
        ConfigurationError: a choice or the sort order needs details that ``criteria`` turn off.
    """
    if not criteria.details and (criteria.choice.needs_details or criteria.sort == "age"):
        raise ConfigurationError(
            "groups can be chosen, or sorted by the age of what they owe, only where the report reads what "
            "members owe for",
            advice='with details = "full" it does',
            setting="report.details",
            code="choice-without-details",
        )


def with_enough_fines(groups: Iterable[Group], criteria: Criteria) -> list[Group]:
    """Return the groups with enough members and fines, or with hidden fines that may be enough.

    The ILS applied the same limits, but balances may have changed since.
    """
    return [
        group
        for group in groups
        if group.member_count >= criteria.min_members
        and (group.known_fines >= criteria.min_total or group.hidden_fines is None)
    ]


def apply_criteria(report: Report, criteria: Criteria) -> Report:
    """Narrow a report to the groups that meet the criteria, which mustn't be wider than the report's own.

    Leave out groups that may or may not match because of hidden data, and add a note with their number. Org units are
    handled by :func:`for_libraries`.

    Raises:
        ConfigurationError: the criteria name an unknown profile, or need details that weren't read.
    """
    require_details(replace(criteria, details=report.details is not None))
    groups = with_enough_fines(report.groups, criteria)
    notes = report.notes
    if criteria.choice.document():
        if report.blocks is None:
            raise ValueError("a report is chosen from with its blocks")
        chooser = Chooser(criteria.choice, report.details, report.blocks, report.generated_at)
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
    # Sort by highest fines, then lowest number. Two stable sorts avoid creating a negated amount for each group.
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
) -> Report:
    """Read the groups that meet ``criteria`` and add up what they owe.

    ``policy`` determines limits if ``criteria`` has none. ``now`` is the report's timestamp (default: this machine's
    time).

    Raises:
        ConfigurationError: ``criteria`` names an unknown org unit, or a limit names an unknown profile or library.
        PermissionDeniedError: the account sees no patrons.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    with gc_paused():
        return _build(gateway, criteria, progress, policy or PolicySettings(), now or datetime.now(UTC))


def _build(gateway: Gateway, criteria: Criteria, progress: Progress, policy: PolicySettings, now: datetime) -> Report:
    require_details(criteria)
    # The gateway collects unreadable dates of all calls. Only those of this report get notes.
    unreadable_before = len(gateway.statistics.unreadable_dates)
    readers: tuple[Callable[[Gateway, Criteria], Any], ...] = (_org_units, _granted)
    org_units, granted = gateway.map(lambda read: read(gateway, criteria), readers)
    home_orgs = _home_orgs(criteria, org_units)
    access = Access.read(gateway, org_units, granted[VIEW_USER])
    # Read these while the search looks for the first groups, which need them.
    kinds_future = gateway.begin(lambda: PenaltyKinds.read(gateway, org_units))
    limits_future = gateway.begin(lambda: _limits(gateway, criteria, policy, org_units))
    details_future = gateway.begin(lambda: _detail_reader(gateway, criteria, org_units, granted))
    if criteria.choice.profiles:
        details_future.result()  # reports a wrong name before reading everything
    reader = GroupReader(gateway, org_units, access, progress=progress)
    high_fines = HighFines(
        min_total=criteria.min_total,
        # The query can only tell one member from several. with_enough_fines applies the exact minimum.
        more_than_one=criteria.min_members > 1,
        home_orgs=home_orgs,
        visible_orgs=() if access.everywhere else access.visible_orgs,
    )

    states: dict[int, PatronState] = {}
    started = datetime.now(UTC)

    def build_batch(rows: Sequence[PatronRow]) -> list[_BatchResult]:
        groups, block_rows, found = gateway.in_parallel(
            lambda: reader.with_limits(limits_future.result()).build_groups(rows),
            lambda: read_block_rows(gateway, kinds_future.result(), [row.id for row in rows]),
            lambda: _detail_rows(details_future.result(), rows),
        )
        candidates = with_enough_fines(groups, criteria)
        members = {member.id: member for group in candidates for member in group.members}
        detail_reader = details_future.result()
        if detail_reader is not None:
            detail_reader.add(members.values(), found, states)
        blocked = [row for row in block_rows if row.patron in members]
        blocks = kinds_future.result().by_patron(blocked, org_units, {row.patron for row in blocked})
        return [_BatchResult(candidates, blocks)]

    search = GroupSearch(
        gateway,
        high_fines,
        progress,
        extra_fields=PatronState.FIELDS if criteria.details else (),
        take=lambda patron, values: states.update({patron: PatronState.of(values, started)}),
    )
    results = search.run(build_batch, lambda found, numbers: [result.without(numbers) for result in found])
    kinds, detail_reader = kinds_future.result(), details_future.result()
    limits_future.result()  # report invalid limits even if no group was found
    candidates = [group for result in results for group in result.groups]
    blocks = FinesBlocks(dict(chain.from_iterable(result.blocks.items() for result in results)), kinds)
    details = None if detail_reader is None else detail_reader.details()
    report = Report(
        generated_at=now.astimezone(),
        gateway=gateway.url,
        criteria=criteria,
        groups=tuple(candidates),
        totals=Totals.of(()),
        org_units=tuple(org_units),
        hidden_libraries=frozenset(unit.shortname for unit in org_units if unit.id not in access.visible_orgs),
        blocks=blocks,
        details=details,
    )
    report = apply_criteria(report, criteria)
    # Keep only the blocks of the groups that are listed.
    if len(report.groups) < len(candidates):
        report = replace(report, blocks=blocks.of_members(report.groups))
    notes = [*_notes(access, report.groups), *report.notes]
    if detail_reader is not None and details is not None:
        notes += detail_reader.notes(report.groups, details)
    unreadable = gateway.statistics.unreadable_dates[unreadable_before:]
    notes += [_unreadable(*date) for date in unreadable[:_MAX_DATES]]
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
    # The module imports bills and items, which a report without details needn't load.
    from evergreen_groups.report.details import DetailReader

    reader = DetailReader(gateway, org_units, granted)
    reader.profiles.named(criteria.choice.profiles)  # raises for an unknown name
    return reader


def _detail_rows(reader: DetailReader | None, rows: Sequence[PatronRow]) -> DetailRows | None:
    return None if reader is None else reader.read(rows)


class _BatchResult(NamedTuple):
    """The results for some groups: those that owe enough, and their blocks for fines by patron id."""

    groups: list[Group]
    blocks: dict[int, list[Penalty]]

    def without(self, numbers: Collection[int]) -> _BatchResult:
        """Return the result without these groups and their members' blocks."""
        gone = {member.id for group in self.groups if group.number in numbers for member in group.members}
        return _BatchResult(
            [group for group in self.groups if group.number not in numbers],
            {id: penalties for id, penalties in self.blocks.items() if id not in gone},
        )


def _limits(gateway: Gateway, criteria: Criteria, policy: PolicySettings, org_units: OrgUnits) -> Limits:
    """Return the one limit of the criteria, or the policy's limits."""
    if criteria.limit is not None:
        return Limits.of(criteria.limit)
    return Limits.read(gateway, policy, org_units)


def _granted(gateway: Gateway, criteria: Criteria) -> dict[str, list[int]]:
    more = (VIEW_USER_TRANSACTIONS, VIEW_CIRCULATIONS) if criteria.details else ()
    return highest_granted(gateway, [VIEW_USER, *more])


def _org_units(gateway: Gateway, criteria: Criteria) -> OrgUnits:
    more = ("mobts", "mb", "circ", "pgt") if criteria.details else ()
    gateway.idl("au", "aou", "mous", "ac", "ausp", "csp", *more)
    return OrgUnits.read(gateway)


def _home_orgs(criteria: Criteria, org_units: OrgUnits) -> frozenset[int]:
    """Return the ids of the requested home libraries, empty if all are requested."""
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
